"""Operations on identity providers and on outbound web identity federation."""
