"""The security token service: exchanges a verified identity for temporary credentials."""
