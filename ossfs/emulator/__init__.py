"""An OSS server on loopback: the demo's bucket, the tests' judge and the benchmarks' ground.

    main     the `ossfs emulator` command
    server   sockets, request log, pacing
    routes   which call a request is; what is refused
    objects  multipart  buckets      the calls, one handler each
    signing  request  reply  faults  what a request and an answer look like on the wire
    storage  uploads  files  index   objects as files, and the sqlite index that names them

It shares no code with the client, so that a shared misreading of OSS cannot hide. Where it
follows a page of OSS's documentation, the rule's test names the page.
"""
