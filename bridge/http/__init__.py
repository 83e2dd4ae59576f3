"""HTTP of the bridge: the ingress without I/O, its protocol and server, and how errors are answered."""
