"""SALT as the formula says it: a list of rows for every key."""

from definitions import mean
from step_tables import place, standard


def salt(
    table, advantages, *, history=0, action=True, next_state=True, terminal="end", count="visit", renormalise=None,
    **convention,
):  # fmt: skip
    """``advantages``, and ``terminal`` unless it is "end", by trajectory id; the table may have next states."""
    trajectory, task, state = table["trajectory"], table["groups"], table["state"]
    keys = []
    for i, (path, at) in enumerate(place(trajectory, table["step"])):
        past = path[:at] if history is None else path[max(at - history, 0) : at]
        missing = 0 if history is None else history - len(past)
        if at + 1 == len(path) and not isinstance(terminal, str):
            after = ("end", terminal[trajectory[i]])
        elif "next" in table:
            after = ("state", table["next"][i])
        else:
            after = ("state", state[path[at + 1]]) if at + 1 < len(path) else "end"
        key = (task[i], missing, tuple((state[j], table["action"][j] if action else None) for j in past), state[i])
        keys.append((*key, table["action"][i] if action else None, after if next_state else None))
    rows = {key: [i for i, k in enumerate(keys) if k == key] for key in keys}
    out = []
    for key in keys:
        who = [trajectory[j] for j in rows[key]]
        out.append(mean([float(advantages[t]) for t in (who if count == "visit" else dict.fromkeys(who))]))
    return standard(out, task, scale="std", **convention) if renormalise else out
