"""The API: one engine (`engine.Engine`) served over gRPC and HTTP, and the client of both.

Read in this order: `engine` (what is served), `authz` (who may do what), `access` (what one caller reaches),
`submission` and `logs` (the two verbs with a life of their own), `grpc_*` and `routes` (thin: decode, call, encode),
`server` (start and stop), `client` (the other end).
Never here: decisions about workflows, storage, or how anything is drawn.
"""
