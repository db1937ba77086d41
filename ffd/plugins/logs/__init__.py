"""Log stores: where logs of replicas are read. `files` implements ports.LogStore, `inotify` tells it of changes."""
