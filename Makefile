# The same jobs under their usual names; ./run does the work. Arguments: make test ARGS="-k name";
# make demo STORE=s3 and make test STORE=s3 run on SeaweedFS
.PHONY: demo test check bench

demo test:
	./run $@ $(if $(STORE),--store $(STORE)) $(ARGS)

check bench:
	./run $@ $(ARGS)
