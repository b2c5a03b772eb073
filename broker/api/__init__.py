"""The AWS query API: the model, the codec, and the one gate that calls operations."""
