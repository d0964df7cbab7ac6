"""Attacks on tenant B's connection and session, and on the end of A's own rights."""

from dataclasses import replace
from enum import Enum
from itertools import product

from broker.attack.arena import MAC, Arena, Ear, new_id, new_secret
from broker.attack.proof import Findings

__all__ = ["expired_connections", "live_take_over", "revoked_rights", "stored_take_over"]


async def live_take_over(arena: Arena, found: Findings) -> None:
    """A connects with B's client id while B is connected, at every door there is."""
    target = arena.target
    victim_id = (await target.victim.login(new_id())).client_id
    doors = [target.attacker]
    if target.service is not None and target.service.address is not None:
        doors.append(replace(target.attacker, address=target.service.address))
    async with arena.victim_ear(victim_id) as ear:
        for door, clean in product(doors, (False, True)):  # the second one removes what the first one may have left
            found.tries += 1
            secret = new_secret()
            async with arena.open(door) as thief:
                found.reaction((await knock(arena, thief, victim_id, clean=clean)).value)
                await arena.bait(secret)
                await thief.drain(target.grace_s)
                if thief.has_heard(secret):
                    found.breach("A hears what B had subscribed to")
                await ear.until(secret, target.grace_s * 8)
            heard = ear.has_heard(secret) or target.service is None
            if ear.connection.is_closed or not heard:
                found.breach(f"B was disconnected (clean={clean})")
                return


class Knock(Enum):
    """What became of A's login with B's client id."""

    REFUSED = "refused"
    APART = "let in, with a session of its own"
    INSIDE = "let in to a session that was there"


async def knock(arena: Arena, thief: Ear, victim_id: str, *, clean: bool) -> Knock:
    """A's login with B's client id."""
    login = await arena.target.attacker.login(victim_id)
    answer = await arena.greet(thief, replace(login, client_id=victim_id), clean=clean)
    if answer is None or answer.reason_code != 0:
        return Knock.REFUSED
    await thief.drain(arena.target.grace_s)
    return Knock.INSIDE if answer.session_present else Knock.APART


async def stored_take_over(arena: Arena, found: Findings) -> None:
    """A connects with B's client id while B is away and messages wait for it."""
    if arena.target.service is None:
        found.skipped = "needs a service login that may publish readings"
        return
    for clean in (False, True):
        found.tries += 1
        victim_id, secret = (await arena.target.victim.login(new_id())).client_id, new_secret()
        async with arena.victim_ear(victim_id, clean=False) as ear:
            await ear.connection.disconnect()
        await arena.bait(secret)
        async with arena.open(arena.target.attacker) as thief:
            outcome = await knock(arena, thief, victim_id, clean=clean)
            found.reaction(outcome.value)
            if thief.has_heard(secret):
                found.breach("A was given B's queued messages")
            elif outcome is Knock.INSIDE:
                found.breach("A was given B's session")
        async with arena.connect(arena.target.victim, victim_id, clean=False) as ear:
            if not await ear.until(secret, arena.target.grace_s * 8):
                found.breach(f"B's queued messages are gone (clean={clean})")


async def expired_connections(arena: Arena, found: Findings) -> None:
    """A stays connected beyond the end of its token."""
    target = arena.target
    if target.issue is None or target.service is None:
        found.skipped = "needs the site's signing key and a service login"
        return
    login = await target.show_token(target.issue(arena.a, ("BUBBLE_UP_READ_CONSUMER",), 2.0), new_id())
    if login is None:
        found.breach("a valid token was refused")
        return
    found.tries += 1
    async with arena.open(target.attacker) as ear:
        answer = await arena.greet(ear, login)
        if answer is None or answer.reason_code != 0:
            found.breach("a valid token was refused")
            return
        await arena.subscribe(ear, f"{arena.a}/read/#")
        await ear.drain(5.0)
        await late_message(arena, found, ear, "the token had ended")


async def revoked_rights(arena: Arena, found: Findings) -> None:
    """A's rights are taken while it listens."""
    target = arena.target
    if target.revoke is None or target.service is None:
        found.skipped = "needs a way to revoke (--revoke-command) and a service login"
        return
    found.tries += 1
    before = new_secret()
    async with arena.connect(target.attacker) as ear:
        await arena.subscribe(ear, f"{arena.a}/read/#")
        async with arena.connect(target.service) as sender:
            await arena.publish(sender, f"{arena.a}/read/{MAC}/temp", before)
        if not await ear.until(before, target.grace_s * 8):
            found.skipped = "A hears nothing before the revocation"
            return
        await target.revoke()
        await ear.drain(3.0)
        await late_message(arena, found, ear, "the right was revoked")


async def late_message(arena: Arena, found: Findings, ear: Ear, since: str) -> None:
    """Whether A still hears its readings."""
    assert arena.target.service is not None
    late = new_secret()
    async with arena.connect(arena.target.service) as sender:
        await arena.publish(sender, f"{arena.a}/read/{MAC}/temp", late)
    if await ear.until(late, arena.target.grace_s * 2):
        found.breach(f"A was given a message after {since}")
    elif ear.connection.is_closed:
        found.notes.append("connection ended")
