"""Operations on identity providers, and on the issuer of an account."""
