"""Chat conversations as steps: one step an assistant message."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from itertools import compress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np

from rollmath._arrays import ArrayLike, Immutable, choice, counted, describe, frozen
from rollmath._checks import listed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath.groups import Groups
    from rollmath.steps import Steps

Message = Mapping[str, Any]
State = Literal["observation", "history"] | Callable[[list[Message]], Any]
Action = Literal["message", "tool_calls"] | Callable[[Message], Any]

#: Fields of an assistant message that reach the environment. Its reasoning does not, nor what a server adds.
_ACTS = ("role", "content", "refusal", "tool_calls", "function_call")
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


class StepMessages(NamedTuple):
    """What :meth:`rollmath.Steps.from_messages` read: your messages by step, not copied; ``print`` it for the counts.

    Attributes:
        message_index: place of the assistant message of each row in its conversation, int64 ``[n_rows]``.
        actions: that message, one a row.
        observations: the messages between it and the assistant message before it, one list a row.
        final: the messages after the last assistant message, one list a trajectory.
    """

    message_index: NDArray[np.int64]
    actions: tuple[Message, ...]
    observations: tuple[list[Message], ...]
    final: tuple[list[Message], ...]

    def __str__(self) -> str:
        after = sum(map(bool, self.final))
        return (
            f"{counted(len(self.final), 'conversation')} made {counted(len(self.actions), 'step')}; "
            f"{after} end with messages after the last assistant message"
        )

    def _take(self, rows: NDArray[np.bool_], trajectories: NDArray[np.bool_]) -> StepMessages:
        """Of some trajectories, whose rows these are."""
        return StepMessages(
            frozen(self.message_index[rows]),
            tuple(compress(self.actions, rows)),
            tuple(compress(self.observations, rows)),
            tuple(compress(self.final, trajectories)),
        )


class FromMessages(Immutable):
    """The way from conversations to a :class:`~rollmath.Steps`."""

    report: StepMessages | None = None

    @classmethod
    def from_messages(
        cls,
        conversations: Iterable[Sequence[Message]],
        *,
        groups: Groups | ArrayLike,
        state: State = "observation",
        action: Action = "message",
        final: Literal["state", "end"] = "state",
        ignore: Collection[str] = (),
    ) -> Steps:
        """From chat conversations, one a trajectory: each assistant message is a step.

        Messages are mappings as the chat API of OpenAI has them: a ``role`` (``"assistant"`` is the agent, all others
        are what it sees), ``content``, ``tool_calls``, ``tool_call_id``. Two messages are equal if all their fields
        are, with these exceptions. Random ids do not count: ``id`` is left out, and a result has the place of its call
        among those of the last assistant message instead of ``tool_call_id``. Arguments of calls are compared as JSON
        (order of keys and white space do not count; 1 and 1.0 differ), or as text where they are no JSON object or
        list. A field that is None or empty is as good as absent. Of an assistant message only ``content``, ``refusal``
        and calls count, not its reasoning. A text and a list of one text part differ, and so do results of parallel
        calls that came in another order. :attr:`Steps.report` has the messages of each step.

        Args:
            conversations: one list of messages a trajectory. One without an assistant message has no step.
            groups: the task, one id a conversation.
            state: what the key of the state is. ``"observation"``: the messages since the assistant message before,
                so that the same tool result is the same state whatever came first. It is empty, and all such states are
                one, where an assistant message follows another or begins the conversation. ``"history"``: all messages
                before, so that only conversations that begin alike share states. Or a function from the list of all
                messages before to a key.
            action: what the key of the action is. ``"message"``: content and calls. ``"tool_calls"``: the calls alone
                where there are any, whatever is said beside them. Or a function from the assistant message to a key.
            final: what messages after the last assistant message are: ``"state"``, the state after the last step, which
                counts unless ``terminal=`` of a method names the ends; or ``"end"``, nothing, so that all conversations
                of a task have the same end. Without such messages it is the end in both cases.
            ignore: further fields of messages that do not count, a time stamp, say; not those within calls.

        Raises:
            TypeError: conversations that are no lists of mappings, a message without a role, values that are no JSON.
            ValueError: a wrong choice, or not one group a conversation.

        >>> from rollmath import Steps
        >>> def call(number, where):
        ...     function = {"name": "look", "arguments": '{"where": "%s"}' % where}
        ...     return {"role": "assistant", "tool_calls": [{"id": f"call_{number}", "function": function}]}
        >>> def result(number, text):
        ...     return {"role": "tool", "tool_call_id": f"call_{number}", "content": text}
        >>> ask = {"role": "user", "content": "Find the key."}
        >>> one = [ask, call(17, "hall"), result(17, "nothing"), call(18, "yard"), result(18, "a key")]
        >>> two = [ask, call(95, "hall"), result(95, "nothing"), call(96, "hall"), result(96, "nothing")]
        >>> steps = Steps.from_messages([one, two], groups=["key", "key"])
        >>> steps.groups(by="state").index.tolist(), steps.groups(by="action").index.tolist()
        ([0, 1, 0, 1], [0, 1, 0, 2])
        >>> print(steps.report)
        2 conversations made 4 steps; 2 end with messages after the last assistant message
        """
        who = "Steps.from_messages"
        if not callable(state):
            choice(who, "state", state, ("observation", "history"))
        if not callable(action):
            choice(who, "action", action, ("message", "tool_calls"))
        choice(who, "final", final, ("state", "end"))
        talks = listed(who, "'conversations'", conversations, "a list with one list of messages a trajectory")
        reader = _Reader(who, state, action, _names(who, ignore), ends=final == "end")
        for number, messages in enumerate(talks):
            reader.read(number, messages)
        return reader.steps(cast("type[Steps]", cls), groups)


class _Reader:
    """Keys of the steps, conversation after conversation."""

    def __init__(self, who: str, state: State, action: Action, ignore: frozenset[str], *, ends: bool) -> None:
        self.who, self.state, self.action, self.ends = who, state, action, ends
        #: Fields that do not count in what the agent saw, and those that do in what it did.
        self.unseen, self.acts = ignore | {"id", "tool_call_id"}, [name for name in _ACTS if name not in ignore]
        self.answers = "tool_call_id" not in ignore
        self.lengths: list[int] = []
        self.before: list[Any] = []
        self.after: list[Any] = []
        self.did: list[Any] = []
        self.ended: list[bool] = []
        self.index: list[int] = []
        self.said: list[Message] = []
        self.saw: list[list[Message]] = []
        self.final: list[list[Message]] = []
        #: Histories are numbered: (number of the history before, what came since) -> number.
        self.histories: dict[tuple[int, str], int] = {}

    def read(self, number: int, conversation: Any) -> None:
        messages = listed(self.who, f"conversations[{number}]", conversation, "a list of messages")
        start, history, keys = 0, -1, []
        places: dict[Any, int] = {}
        since: list[str] = []  # the messages since the last assistant message, as they are compared
        for at, message in enumerate(messages):
            name = f"conversations[{number}][{at}]"
            if self._role(name, message) != "assistant":
                seen = self._seen(name, message, places)
                since.append("" if callable(self.state) else self._json(name, seen))
                continue
            acted, places = self._acted(name, message)
            keys.append(self._state_key(messages[:at], since, history))
            self.did.append(self._action_key(name, message, acted))
            if self.state == "history":
                history = self._numbered(history, [*since, self._json(name, acted)])
            self.index.append(at)
            self.said.append(message)
            self.saw.append(messages[start:at])
            start, since = at + 1, []
        self.lengths.append(len(keys))
        self.final.append(messages[start:])
        if keys:
            goes_on = bool(since) and not self.ends
            self.before += keys
            # Where nothing follows, the state itself, only to have a key that exists.
            self.after += [*keys[1:], self._state_key(messages, since, history) if goes_on else keys[-1]]
            self.ended += [False] * (len(keys) - 1) + [not goes_on]

    def steps(self, cls: type[Steps], groups: Groups | ArrayLike) -> Steps:
        after = None if sum(self.ended) == sum(map(bool, self.lengths)) else self.after
        made = cls._of(self.who, self.lengths, self.before, self.did, groups, after)
        if after is not None:
            made._fill(next_index=frozen(np.where(self.ended, -1, made.next_index)))
        index = frozen(np.array(self.index, dtype=np.int64))
        made._fill(report=StepMessages(index, tuple(self.said), tuple(self.saw), tuple(self.final)))
        return made

    def _state_key(self, before: list[Message], since: list[str], history: int) -> Any:
        if callable(self.state):
            return self.state(before)
        return f"[{','.join(since)}]" if self.state == "observation" else self._numbered(history, since)

    def _action_key(self, name: str, message: Message, acted: dict[str, Any]) -> Any:
        if callable(self.action):
            return self.action(message)
        calls = {key: acted[key] for key in ("tool_calls", "function_call") if key in acted}
        return self._json(name, calls if calls and self.action == "tool_calls" else acted)

    def _numbered(self, history: int, since: list[str]) -> int:
        return self.histories.setdefault((history, ",".join(since)), len(self.histories))

    def _json(self, name: str, value: Any) -> str:
        try:
            return _ENCODER.encode(value)
        except (TypeError, ValueError, RecursionError) as error:
            msg = f"{self.who}(): {name} must hold what JSON can hold, but: {error}"
            raise TypeError(msg) from None

    def _role(self, name: str, message: Any) -> str:
        if not isinstance(message, Mapping):
            fix = "; objects of a client have a method for that, such as model_dump()"
            msg = f"{self.who}(): {name} must be a message (a mapping with 'role'), got {describe(message)}{fix}"
            raise TypeError(msg)
        role = message.get("role")
        if not isinstance(role, str):
            msg = f"{self.who}(): {name} must have a 'role' that is a string, got {describe(role)}"
            raise TypeError(msg)
        return role

    def _seen(self, name: str, message: Message, places: dict[Any, int]) -> dict[str, Any]:
        """A message of others as it is compared; ``places`` are those of the calls that it may answer."""
        made = {key: x for key, x in message.items() if key not in self.unseen and not _empty(x)}
        if self.answers and (call := message.get("tool_call_id")) is not None:
            if not isinstance(call, (str, int)):
                msg = f"{self.who}(): {name}['tool_call_id'] must be a string, got {describe(call)}"
                raise TypeError(msg)
            if call in places:
                made["tool_call_id"] = places[call]
        return made

    def _acted(self, name: str, message: Message) -> tuple[dict[str, Any], dict[Any, int]]:
        """An assistant message as it is compared, and the place of each of its calls by id."""
        made = {key: x for key in self.acts if not _empty(x := message.get(key))}
        places: dict[Any, int] = {}
        if "tool_calls" in made:
            calls = listed(self.who, f"{name}['tool_calls']", made["tool_calls"], "a list of mappings")
            made["tool_calls"] = [self._call(f"{name}['tool_calls'][{i}]", call) for i, call in enumerate(calls)]
            places = {call["id"]: i for i, call in enumerate(calls) if isinstance(call.get("id"), (str, int))}
        if "function_call" in made:
            made["function_call"] = self._call(f"{name}['function_call']", made["function_call"])
        return made, places

    def _call(self, name: str, call: Any) -> dict[str, Any]:
        """A call without its ids, its arguments parsed; those of a function may be given beside its name."""
        if not isinstance(call, Mapping):
            msg = f"{self.who}(): {name} must be a mapping, got {describe(call)}"
            raise TypeError(msg)
        made = _parsed(call)
        if isinstance(function := made.get("function"), Mapping):
            made["function"] = _parsed(function)
        return made


def _empty(x: Any) -> bool:
    return x is None or (isinstance(x, (str, list, tuple, Mapping)) and not x)


def _parsed(call: Mapping[str, Any]) -> dict[str, Any]:
    """What is not empty, but ids; arguments as JSON, unless they are text that is no JSON object or list."""
    made = {key: x for key, x in call.items() if key not in {"id", "index"} and not _empty(x)}
    if isinstance(given := made.get("arguments"), str):
        try:
            parsed = json.loads(given)
        except (ValueError, RecursionError):
            return made
        if isinstance(parsed, (dict, list)):
            made["arguments"] = parsed
            if not parsed:
                del made["arguments"]
    return made


def _names(who: str, ignore: Any) -> frozenset[str]:
    # A set will do: their order is no matter.
    names = list(ignore) if isinstance(ignore, Set) else listed(who, "'ignore'", ignore, "a list of names of fields")
    for name in names:
        if not isinstance(name, str):
            msg = f"{who}(): 'ignore' must hold strings, got {describe(name)}"
            raise TypeError(msg)
    if "role" in names:
        msg = f"{who}(): 'ignore' must not name 'role', which tells what the agent did from what it saw"
        raise ValueError(msg)
    return frozenset(names)
