"""How the pages look for an organization: name, logo, colors and links."""
