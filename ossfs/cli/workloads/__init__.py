"""What a mount is measured by: files, and what ordinary programs do with them.

Everything here works on a directory and knows neither a mount nor a store, so the same workloads
run through any client. What must be there beforehand (`files`), what is timed (`rows`) and who
says what has come of it (`judge`) are apart: `ossfs bench` writes the files through the mount it
measures, a rig puts them into the bucket and asks the store afterwards.
"""
