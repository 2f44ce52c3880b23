"""Chat conversations as steps: one step an assistant message."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np

from rollmath._arrays import ArrayLike, Immutable, choice, counted, describe, frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath.groups import Groups
    from rollmath.steps import Steps

Message = Mapping[str, Any]
State = Literal["observation", "history"] | Callable[[list[Message]], Any]
Action = Literal["message", "tool_calls"] | Callable[[Message], Any]

#: Fields of an assistant message that reach the environment. Its reasoning does not, nor what a server adds.
_ACTS = ("content", "refusal", "tool_calls", "function_call")
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
        ignore: Sequence[str] = (),
    ) -> Steps:
        """From chat conversations, one a trajectory: each assistant message is a step.

        Messages are mappings as the chat API of OpenAI has them: a ``role`` (all but ``"assistant"`` is what the agent
        sees), ``content``, ``tool_calls``, ``tool_call_id``. Two of them are equal if all their fields are, but:
        random ids do not count (``id``, and a result names its call by place instead); arguments of calls are compared
        as JSON (order of keys and white space do not count; 1 and 1.0 differ), or as text where they are none;
        a field that is None, ``""`` or ``[]`` is as good as absent; and of an assistant message only ``content``,
        ``refusal`` and calls count, not its reasoning. :attr:`Steps.report` has the messages of each step.

        Args:
            conversations: one list of messages a trajectory. One without an assistant message has no step.
            groups: the task, one id a conversation.
            state: what the key of the state is. ``"observation"``: the messages since the assistant message before,
                so that the same tool result is the same state whatever came first. It is empty where one assistant
                message follows another. ``"history"``: all messages before, so that only conversations that begin alike
                share states. Or a function from the list of all messages before to a key.
            action: what the key of the action is. ``"message"``: content and calls. ``"tool_calls"``: the calls alone
                where there are any, whatever is said beside them. Or a function from the assistant message to a key.
            final: what messages after the last assistant message are: ``"state"``, the state after the last step, or
                ``"end"``: nothing, so that every conversation has the same end, or what ``terminal=`` of a method says.
                Without such messages it is the end in both cases.
            ignore: further fields of messages that do not count, a time stamp, say.

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
        reader = _Reader(who, state, action, _names(who, ignore))
        for number, messages in enumerate(
            _listed(who, "'conversations'", conversations, "a list with one list of messages a trajectory")
        ):
            reader.read(number, messages)
        return reader.steps(cast("type[Steps]", cls), groups, ends=final == "end")


class _Reader:
    """Keys of the steps, conversation after conversation."""

    def __init__(self, who: str, state: State, action: Action, ignore: frozenset[str]) -> None:
        self.who, self.state, self.action, self.ignore = who, state, action, ignore
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
        name = f"conversations[{number}]"
        messages = _listed(self.who, name, conversation, "a list of messages")
        start, history, keys = 0, -1, []
        places: dict[Any, int] = {}
        since: list[Any] = []  # the messages since the last assistant message, as they are compared
        for at, message in enumerate(messages):
            role = self._role(f"{name}[{at}]", message)
            if role != "assistant":
                since.append(self._seen(f"{name}[{at}]", message, places))
                continue
            acted, places = self._acted(f"{name}[{at}]", message)
            keys.append(self._state_key(name, messages[:at], since, history))
            self.did.append(self._action_key(f"{name}[{at}]", message, acted))
            if self.state == "history":
                history = self._numbered(name, history, [*since, acted])
            self.index.append(at)
            self.said.append(message)
            self.saw.append(messages[start:at])
            start, since = at + 1, []
        self.lengths.append(len(keys))
        self.final.append(messages[start:])
        if keys:
            trailing = bool(since)
            last = self._state_key(name, messages, since, history) if trailing else keys[-1]
            self.before += keys
            self.after += [*keys[1:], last]
            self.ended += [False] * (len(keys) - 1) + [not trailing]

    def steps(self, cls: type[Steps], groups: Groups | ArrayLike, *, ends: bool) -> Steps:
        after = None if ends or all(self.ended[i] for i in self._last_rows()) else self.after
        made = cls._of(self.who, self.lengths, self.before, self.did, groups, after)
        if after is not None:
            # Where nothing follows, `after` holds the state itself, only to have a key that exists.
            made._fill(next_index=frozen(np.where(self.ended, -1, made.next_index)))
        index = frozen(np.array(self.index, dtype=np.int64))
        made._fill(report=StepMessages(index, tuple(self.said), tuple(self.saw), tuple(self.final)))
        return made

    def _last_rows(self) -> list[int]:
        return [end - 1 for n, end in zip(self.lengths, np.cumsum(self.lengths).tolist(), strict=True) if n]

    def _state_key(self, name: str, before: list[Message], since: list[Any], history: int) -> Any:
        if callable(self.state):
            return self.state(before)
        return self._json(name, since) if self.state == "observation" else self._numbered(name, history, since)

    def _action_key(self, name: str, message: Message, acted: dict[str, Any]) -> Any:
        if callable(self.action):
            return self.action(message)
        calls = {key: acted[key] for key in ("tool_calls", "function_call") if key in acted}
        return self._json(name, calls if calls and self.action == "tool_calls" else acted)

    def _numbered(self, name: str, history: int, since: list[Any]) -> int:
        return self.histories.setdefault((history, self._json(name, since)), len(self.histories))

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
        made = self._kept(message, set(message) - {"id", "tool_call_id"})
        if (call := message.get("tool_call_id")) is not None:
            if not isinstance(call, (str, int)):
                msg = f"{self.who}(): {name}['tool_call_id'] must be a string, got {describe(call)}"
                raise TypeError(msg)
            if call in places:
                made["tool_call_id"] = places[call]
        return made

    def _acted(self, name: str, message: Message) -> tuple[dict[str, Any], dict[Any, int]]:
        """An assistant message as it is compared, and the place of each of its calls by id."""
        made = self._kept(message, set(_ACTS) | {"role"})
        places: dict[Any, int] = {}
        if "tool_calls" in made:
            calls = _listed(self.who, f"{name}['tool_calls']", made["tool_calls"], "a list of mappings")
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
        made = self._kept(call, set(call) - {"id", "index"})
        function = made.get("function")
        if isinstance(function, Mapping):
            made["function"] = self._kept(function, set(function)) | _arguments(function)
        return made | _arguments(made)

    def _kept(self, message: Message, fields: set[str]) -> dict[str, Any]:
        keep = fields - self.ignore
        return {key: x for key, x in message.items() if key in keep and not _empty(x)}


def _empty(x: Any) -> bool:
    return x is None or (isinstance(x, (str, list, tuple)) and not x)


def _arguments(function: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call as JSON; text that is no JSON object or list stays text."""
    given = function.get("arguments")
    if not isinstance(given, str) or not given:
        return {}
    try:
        parsed = json.loads(given)
    except (ValueError, RecursionError):
        return {}
    return {"arguments": parsed} if isinstance(parsed, (dict, list)) else {}


def _listed(who: str, name: str, x: Any, what: str) -> list[Any]:
    if isinstance(x, (str, bytes, Mapping)) or not hasattr(x, "__iter__"):
        msg = f"{who}(): {name} must be {what}, got {describe(x)}"
        raise TypeError(msg)
    return list(x)


def _names(who: str, ignore: Any) -> frozenset[str]:
    if isinstance(ignore, (str, bytes)) or not hasattr(ignore, "__iter__"):
        msg = f"{who}(): 'ignore' must be a list of names of fields, got {describe(ignore)}"
        raise TypeError(msg)
    names = list(ignore)
    for name in names:
        if not isinstance(name, str):
            msg = f"{who}(): 'ignore' must hold strings, got {describe(name)}"
            raise TypeError(msg)
    if "role" in names:
        msg = f"{who}(): 'ignore' must not name 'role', which tells what the agent did from what it saw"
        raise ValueError(msg)
    return frozenset(names)
