"""What becomes of the messages of a shared subscription when the session of the member that held them ends: another
member gets them (MQTT 5.0 section 4.8.2, "the Server SHOULD send").

Decides which messages these are; whom of the others they go to is the engine's business.
"""

from broker.delivery import Delivery
from broker.router import Match, ShareGroup, SubscriptionTree
from broker.session import Session

__all__ = ["Inheritance", "inheritance_of"]

Inheritance = list[tuple[Delivery, ShareGroup[Session]]]


def inheritance_of(session: Session, subscriptions: SubscriptionTree[Session]) -> Inheritance:
    """Takes out of a session that ends, while it is still subscribed, what others may get in its place, in order.

    A QoS 2 message on its way goes to nobody else ([MQTT-4.8.2-5]). A message that a subscription of the member's own
    may have brought stays as well: who heard it does not need it twice.
    """
    if not any(held.group is not None for held in session.subscriptions.values()):
        return []
    groups: dict[str, ShareGroup[Session] | None] = {}
    found: Inheritance = []
    for item in session.deliveries():
        topic = item.message.topic
        if topic not in groups:
            groups[topic] = _others(session, subscriptions.match(topic))
        group = groups[topic]
        if group is not None and item.lease is None and not (item.qos == 2 and item.packet_id):
            found.append((item, group))
    session.remove([item for item, _ in found])
    return found


def _others(session: Session, match: Match[Session]) -> ShareGroup[Session] | None:
    """Who else is in the one group that brought the topic; None: nobody, or it is not certain which group did."""
    if any(target.subscriber is session for target in match.targets):
        return None
    mine = [group for group in match.groups if any(target.subscriber is session for target in group.members)]
    if len(mine) != 1:
        return None
    others = tuple(target for target in mine[0].members if target.subscriber is not session)
    return ShareGroup(others, mine[0].turn) if others else None
