"""The graph of a step table, from one dictionary a row."""


def step_graph(rows, terminal=None, action=True, truncated=()):
    """Counts of edges by names of nodes: ``{(source, action, target): (visits, trajectories)}``.

    Rows have task, trajectory, state, action and perhaps next_state; those of a trajectory are in order of time. A node
    is named by task and state, an end by task and the terminal id of the trajectory.
    """
    takers, of_row = {}, []
    for i, row in enumerate(rows):
        later = [r for r in rows[i + 1 :] if r["trajectory"] == row["trajectory"]]
        task, trajectory = row["task"], row["trajectory"]
        if later or trajectory in truncated:
            after = row["next_state"] if "next_state" in row else later[0]["state"]
            target = (task, "state", after)
        else:
            target = (task, "end", "end" if terminal is None else terminal[trajectory])
        edge = ((task, "state", row["state"]), row["action"] if action else None, target)
        of_row.append(edge)
        takers.setdefault(edge, []).append(trajectory)
    return of_row, {edge: (len(t), len(set(t))) for edge, t in takers.items()}
