"""Auth plugins: who a caller is. `local` trusts the kernel, `tokens` a file of hashed bearer tokens."""
