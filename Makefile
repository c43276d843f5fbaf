# The same jobs under their usual names; ./run does the work. Arguments: make test ARGS="-k name"
.PHONY: demo test check bench

demo test check bench:
	./run $@ $(ARGS)
