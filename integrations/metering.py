"""What a call takes in platform credits: 1 for a read; for a model 2, and 1 per started 1,000 tokens."""

READ = 1
MODEL_CALL = 2
TOKENS_PER_CREDIT = 1000


def price(tokens: int | None) -> int:
    """
    Return the platform credits of a call that took this many tokens, in and out together.

    None means that no model was asked.
    """
    if tokens is None:
        return READ
    return MODEL_CALL + -(-tokens // TOKENS_PER_CREDIT)
