"""The commands ``fedgate resource``: the services that open to Fedgate's credentials, and who may use them."""
