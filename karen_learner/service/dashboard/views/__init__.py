"""The views of a tenant, one module each."""
