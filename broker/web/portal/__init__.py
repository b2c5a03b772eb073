"""The portal: roles, credentials, and explanations of refused roles."""
