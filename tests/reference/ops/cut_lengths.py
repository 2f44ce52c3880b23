"""Segments by number of tokens, dealt out one token after another."""


def _cuts(sizes, mask, include_prompt):
    """Cuts after so many trained tokens each; the last segment has none after it."""
    places = [t for t, m in enumerate(mask) if m]
    cuts, done = set(), 0
    for size in sizes:
        done += size
        if size and done < len(places):
            cuts.add(places[done - 1])
    return sorted(cuts | {-1} if include_prompt and places else cuts)


def cut_by_count(counts, masks, include_prompt):
    out = []
    for count, mask in zip(counts, masks, strict=True):
        tokens = sum(map(bool, mask))
        sizes = [tokens // count + (i < tokens % count) for i in range(count)]
        out.append(_cuts(sizes, mask, include_prompt))
    return out


def cut_by_length(segment_lengths, masks, include_prompt):
    out = []
    for size, mask in zip(segment_lengths, masks, strict=True):
        out.append(_cuts([size] * len(mask), mask, include_prompt))
    return out
