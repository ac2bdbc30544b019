"""Status and metrics of tenants."""
