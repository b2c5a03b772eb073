"""Operations on passwords, access keys and MFA devices of users."""
