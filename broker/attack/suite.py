"""All attacks in one table, and the run that turns them into proofs."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from broker.attack import reading, sessions, tokens, writing
from broker.attack.arena import Arena, RefusedLogin
from broker.attack.proof import Findings, Proof, Verdict
from broker.attack.target import Target

__all__ = ["ATTACKS", "Attack", "attack_all", "breaches"]


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack: its name, what it tries in words, and its moves."""

    name: str
    title: str
    run: Callable[[Arena, Findings], Awaitable[None]]


ATTACKS: Final[tuple[Attack, ...]] = (
    Attack("exact-filters", "subscribe to B's topics by name", reading.exact_filters),
    Attack("wildcards", "wildcards, + in the tenant's place", reading.wildcards),
    Attack("shared", "shared subscriptions ($share)", reading.shared),
    Attack("spellings", "B's name in Unicode forms, with NUL, dots, invalid UTF-8", reading.other_spellings),
    Attack("retained", "B's retained messages", reading.retained),
    Attack("system-topics", "$SYS and $CONTROL", reading.system_topics),
    Attack("publish", "publish in B's tree", writing.forged_messages),
    Attack("long-topics", "over-long and over-deep topics", writing.long_topics),
    Attack("will", "a will in B's tree", writing.wills),
    Attack("retained-plant", "plant or clear retained messages of B", writing.retained_messages),
    Attack("response-topic", "a response topic in B's tree", writing.response_topics),
    Attack("topic-alias", "topic aliases for B's topics", writing.aliases),
    Attack("control-topics", "commands to the broker itself", writing.control_topics),
    Attack("take-over", "B's client id while B is connected", sessions.live_take_over),
    Attack("session-theft", "B's client id while messages wait for B", sessions.stored_take_over),
    Attack("token-roles", "roles of others, in any case", tokens.claimed_roles),
    Attack("expiry-live", "stay connected beyond the token's end", sessions.expired_connections),
    Attack("revocation-live", "stay connected after the right was revoked", sessions.revoked_rights),
    Attack("token-expired", "tokens that have ended", tokens.expired_tokens),
    Attack("token-tenant", "wildcards and paths as tenant", tokens.forged_tenants),
    Attack("token-unsigned", "tokens with alg none or without a signature", tokens.unsigned_tokens),
    Attack("token-public-key", "HS256 with the public key as the secret", tokens.public_key_as_secret),
    Attack("token-kid", "forged kid, key in the header", tokens.forged_keys),
)
"""In this order: from `revocation-live` on A has no rights, and what follows are guesses, after which a broker may slow
every login of our address.
"""


async def attack_all(
    target: Target, *, only: Sequence[str] = (), tell: Callable[[Proof], None] = lambda proof: None
) -> list[Proof]:
    """Runs the attacks, one after the other.

    Args:
        target: the broker and the logins.
        only: names of attacks; none: all.
        tell: called with each proof when it is there.

    Raises:
        RefusedLogin: the logins given are not good for the proof.
    """
    proofs: list[Proof] = []
    for attack in ATTACKS:
        if only and attack.name not in only:
            continue
        proof = await prove(attack, target)
        tell(proof)
        proofs.append(proof)
    return proofs


async def prove(attack: Attack, target: Target) -> Proof:
    """One attack. What the broker does to the attack itself (closing, silence) is no error of the attack."""
    found = Findings()
    try:
        await attack.run(Arena(target), found)
    except RefusedLogin:
        raise
    except (OSError, TimeoutError) as error:
        found.breach(f"the broker does not serve any more: {error!r}")
    limit = target.limits.get(attack.name)
    if found.skipped:
        return Proof(attack.name, attack.title, found.tries, Verdict.SKIPPED, found.skipped)
    if not found.breaches:
        return Proof(attack.name, attack.title, found.tries, Verdict.HELD, found.evidence)
    if limit:
        return Proof(attack.name, attack.title, found.tries, Verdict.LIMIT, limit)
    return Proof(attack.name, attack.title, found.tries, Verdict.BREACH, "; ".join(found.breaches[:3]))


def breaches(proofs: Sequence[Proof]) -> list[Proof]:
    """The attacks that succeeded."""
    return [proof for proof in proofs if proof.verdict is Verdict.BREACH]
