"""May this request pass? What reverse proxies ask before they forward a request to a service behind Fedgate."""
