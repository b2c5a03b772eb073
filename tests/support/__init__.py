"""What tests share: servers, installations, identities, requests."""
