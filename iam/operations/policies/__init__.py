"""Operations on managed and inline policies, attachments, and the simulator."""
