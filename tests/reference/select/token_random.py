"""Tokens at random, by sorting the hashes of all of them."""

from token_choice import draw


def random_tokens(trained, **options):
    return draw(trained, **options)
