"""The tokens of the highest scores, by sorting all of them."""

from token_choice import choose


def top_tokens(scores, **options):
    return choose(scores, **options)
