"""HTTP APIs of your own: what their requests ask of the policies, by routes or as API Gateway does."""
