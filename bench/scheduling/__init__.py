"""The yardsticks of scheduling, each beside its bar; on open data, with the product's own scheduler."""
