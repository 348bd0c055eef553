"""A test peer that stands in for MongoDB Atlas Local: a real mongod behind a small wire proxy.

`mongod` fetches and runs the server (a one-node replica set), `wire` frames messages, `catalog` keeps
search indexes, `vector_search` and `text_search` answer the stages that a plain mongod lacks, `proxy`
joins them. It is for tests only and is never shipped: the server inside the wheel is under the SSPL.

Nothing here imports the library or the services, so a container needs no more than numpy and pymongo.
"""
