"""Log stores: where logs of replicas are read. Each file is one implementation of ports.LogStore."""
