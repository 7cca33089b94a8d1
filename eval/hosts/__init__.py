"""Several hosts and a real etcd: one host after the other is lost, and the checkers at the end; and what it costs."""
