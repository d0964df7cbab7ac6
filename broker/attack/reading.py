"""Attacks that try to hear what is tenant B's."""

from broker.attack.arena import MAC, Arena, Ear, new_secret
from broker.attack.proof import Findings
from broker.attack.wire import raw_subscribe
from meshwire.mqtt import PacketError, ProtocolVersion
from meshwire.mqtt.reasons import is_failure

__all__ = ["exact_filters", "other_spellings", "retained", "shared", "system_topics", "wildcards"]


async def overhear(arena: Arena, found: Findings, filters: list[str]) -> None:
    """A subscribes to each filter on a connection of its own, then bait is laid out for B."""
    for text in filters:
        secret = new_secret()
        async with arena.connect(arena.target.attacker) as ear:
            found.tries += 1
            found.reaction(await ask_for(arena, ear, text))
            await arena.bait(secret)
            await arena.settle(ear, arena.a)
            judge(arena, found, ear, secret, text)


async def ask_for(arena: Arena, ear: Ear, text: str) -> str:
    """SUBSCRIBE, behind A's own readings, by which the control message comes; also with filters that our encoder
    refuses to write. Gives the broker's reaction in a word.
    """
    await arena.subscribe(ear, f"{arena.a}/read/#")
    try:
        codes = await arena.subscribe(ear, text)
    except (PacketError, UnicodeEncodeError):
        is_v5 = arena.target.version is ProtocolVersion.V5
        ear.connection.send_octets(raw_subscribe(text.encode("utf-8", "surrogatepass"), is_v5=is_v5))
        await ear.drain(arena.target.grace_s / 2)
        codes = ear.granted()
    if codes is None:
        return "closed" if ear.connection.is_closed else "without an answer"
    return "refused" if all(is_failure(code) for code in codes) else "granted and empty"


def judge(arena: Arena, found: Findings, ear: Ear, secret: bytes, what: str) -> None:
    """Whether A has heard a secret, or anything in B's tree."""
    foreign = [packet for packet in ear.heard if secret in packet.payload or packet.topic.startswith(f"{arena.b}/")]
    if foreign:
        found.breach(f"{short(what)} brought {short(foreign[0].topic)}")


def short(text: str) -> str:
    """A text for a table: printable, and not long."""
    shown = ascii(text)[1:-1]
    return shown if len(shown) <= 60 else f"{shown[:40]}… ({len(text)} characters)"


async def exact_filters(arena: Arena, found: Findings) -> None:
    """B's topics by name."""
    b = arena.b
    await overhear(
        arena,
        found,
        [
            f"{b}/read/{MAC}/temp",
            f"{b}/cmd/{MAC}/req/bait",
            f"{b}/cmd/{MAC}/res/bait",
            f"{b}/presence/{MAC}",
            f"{b}/read/#",
            f"{b}/#",
            b,
        ],
    )


async def wildcards(arena: Arena, found: Findings) -> None:
    """Wildcards, alone and in the tenant's place, and filters that a topic matcher would mistake for A's own."""
    a = arena.a
    filters = ["#", "+/#", "+/read/#", f"+/read/{MAC}/temp", "+/+/+/+", "+/cmd/+/req/+", "/#", "+/+/#", "+/+", "+"]
    filters += [f"{a}/#", f"{a}/+/#", f"{a}/+/{MAC}/+", f"{a}/cmd/+/res/#", f"{a}/../{arena.b}/read/#"]
    await overhear(arena, found, filters)


async def shared(arena: Arena, found: Findings) -> None:
    """Shared subscriptions: the group's name must not hide the filter."""
    b = arena.b
    filters = [f"$share/g/{b}/read/#", "$share/g/#", "$share/g/+/read/#", f"$share/{b}/read/#", f"$share//{b}/read/#"]
    filters += [f"$share/g/$share/g/{b}/read/#", f"$queue/{b}/read/#", f"$exclusive/{b}/read/#", "$share/+/#"]
    await overhear(arena, found, filters)


async def other_spellings(arena: Arena, found: Findings) -> None:
    """Other ways to write B's name: case, Unicode forms, NUL, separators of other engines, invalid UTF-8."""
    b = arena.b
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in b)
    filters = [f"{b.upper()}/read/#", f"{b.swapcase()}/read/#", f"{wide}/read/#", f"{b}\u200b/read/#"]
    filters += [
        f"\ufeff{b}/read/#",
        f"{b}\0/read/#",
        f"{arena.a}\0/../{b}/read/#",
        f"{b}.read.#",
        f"{b}.read.{MAC}.temp",
    ]
    filters += [
        f"{arena.a}/read/#/{b}",
        f"{b}\ud800/read/#",
        f"*/read/{MAC}/temp",
        "*.read.#",
        "#.temp",
        f"{b}//read/#",
    ]
    await overhear(arena, found, filters)


async def retained(arena: Arena, found: Findings) -> None:
    """B's retained presence, by name and by wildcard."""
    if arena.target.service is None:
        found.skipped = "needs a service login that may publish presence"
        return
    secret = new_secret()
    await arena.bait(secret, retain=True)
    for text in (f"{arena.b}/presence/{MAC}", f"{arena.b}/event/{MAC}", "#", f"+/presence/{MAC}", "+/+/+"):
        async with arena.connect(arena.target.attacker) as ear:
            found.tries += 1
            found.reaction(await ask_for(arena, ear, text))
            await arena.settle(ear, arena.a)
            judge(arena, found, ear, secret, text)


async def system_topics(arena: Arena, found: Findings) -> None:
    """The broker's own statistics and control topics name clients of other tenants."""
    for text in ("$SYS/#", "$SYS/broker/#", "$SYS/broker/clients/+", "+/broker/clients/connected", "$CONTROL/#", "$#"):
        async with arena.connect(arena.target.attacker) as ear:
            found.tries += 1
            found.reaction(await ask_for(arena, ear, text))
            await arena.settle(ear, arena.a)
            if any(packet.topic.startswith("$") for packet in ear.heard):
                found.breach(f"{text} brought {ear.heard[0].topic}")
