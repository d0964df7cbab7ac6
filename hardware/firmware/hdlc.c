/* HDLC secondary, normal response mode, two-way alternate, window 1 (IEC 62056-46, 6.4; ISO/IEC 13239).
 *
 * Everything sent is an answer to a frame with P, or to SNRM or DISC. An I frame is kept until N(R) acknowledges it.
 */
#include "secondary.h"

#include <string.h>

#define FLAG 0x7Eu
#define ADDRESS 0x03u /* address 1 in one octet */
#define POLL 0x10u
#define SILENCE_MS 200u /* inter-octet time-out: a frame that stops is dropped */

enum { SNRM = 0x83, DISC = 0x43, UA = 0x63, DM = 0x0F, FRMR = 0x87, UI = 0x03, RR = 0x01, RNR = 0x05 };
enum { REASON_W = 1, REASON_X = 3, REASON_Y = 4, REASON_Z = 8 };

static uint16_t crc16(const uint8_t *octets, size_t count)
{
    uint16_t crc = 0xFFFFu;
    while (count--) {
        crc ^= *octets++;
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 1u ? crc >> 1 ^ 0x8408u : crc >> 1);
    }
    return (uint16_t)~crc;
}

static void put_crc(uint8_t *at, uint16_t crc)
{
    at[0] = (uint8_t)crc;
    at[1] = (uint8_t)(crc >> 8);
}

static void transmit(mw_secondary *s, uint8_t control, const uint8_t *info, size_t count, bool more)
{
    uint8_t frame[MW_MAX_FRAME];
    size_t length = count ? 9u + count : 7u;
    frame[0] = FLAG;
    frame[1] = (uint8_t)(0xA0u | (more ? 0x08u : 0u) | length >> 8);
    frame[2] = (uint8_t)length;
    frame[3] = frame[4] = ADDRESS;
    frame[5] = (uint8_t)(control | POLL);
    put_crc(frame + 6, crc16(frame + 1, 5));
    if (count) {
        memcpy(frame + 8, info, count);
        put_crc(frame + 8 + count, crc16(frame + 1, 7 + count));
    }
    frame[1 + length] = FLAG;
    s->board.output(s->board.context, frame, length + 2);
}

static void forget_link(mw_secondary *s)
{
    s->vs = s->vr = s->acknowledged = 0;
    s->assembled = 0;
    s->out_length = s->out_position = s->out_segment = 0;
    s->peer_busy = false;
}

/* 6.4.4.4.3.2: what one sends is bounded by what the other takes. Only "receive" (6) of the SNRM limits us. */
static uint16_t peer_receives(const uint8_t *info, size_t count)
{
    uint32_t limit = MW_MAX_INFO;
    if (count < 3 || info[0] != 0x81 || info[1] != 0x80)
        return MW_MAX_INFO;
    for (size_t at = 3; at + 1 < count && at + 2 + info[at + 1] <= count; at += 2u + info[at + 1]) {
        uint32_t value = 0;
        for (size_t i = 0; i < info[at + 1]; i++)
            value = value << 8 | info[at + 2 + i];
        if (info[at] == 6 && value)
            limit = value;
    }
    return (uint16_t)(limit < MW_MAX_INFO ? limit : MW_MAX_INFO);
}

static void accept(mw_secondary *s, const uint8_t *info, size_t count)
{
    uint8_t group[] = {0x81, 0x80, 0x14, 5, 2, 0, 0, 6, 2, 0, MW_MAX_INFO, 7, 4, 0, 0, 0, 1, 8, 4, 0, 0, 0, 1};
    forget_link(s);
    s->observed = false; /* the observer may be another one: it registers again */
    s->mode = MW_NORMAL;
    s->peer_max_info = peer_receives(info, count);
    group[6] = (uint8_t)s->peer_max_info;
    transmit(s, UA, group, sizeof group, false);
}

static void reject(mw_secondary *s, uint8_t control, uint8_t reason)
{
    s->frmr[0] = control;
    s->frmr[1] = (uint8_t)(s->vr << 5 | s->vs << 1);
    s->frmr[2] = reason;
    s->mode = MW_REJECTING;
    if (control & POLL)
        transmit(s, FRMR, s->frmr, sizeof s->frmr, false);
}

/* 5.5.2 of ISO/IEC 13239: N(R) may be V(A) or, with window 1, V(A) + 1 when an I frame is on the line. */
static bool take_nr(mw_secondary *s, uint8_t nr)
{
    if (nr == s->acknowledged) {
        s->vs = s->acknowledged; /* the turn is back and the frame is not acknowledged: it goes again */
        return true;
    }
    if (!s->out_segment || nr != (uint8_t)((s->acknowledged + 1u) & 7u))
        return false;
    s->acknowledged = s->vs = nr;
    s->out_position = (uint16_t)(s->out_position + s->out_segment);
    s->out_segment = 0;
    if (s->out_position >= s->out_length)
        s->out_length = s->out_position = 0;
    return true;
}

static void use_turn(mw_secondary *s)
{
    if (!s->out_length)
        mw_coap_idle(s);
    if (!s->out_length || s->peer_busy) {
        transmit(s, (uint8_t)(s->vr << 5 | RR), NULL, 0, false);
        return;
    }
    uint16_t rest = (uint16_t)(s->out_length - s->out_position);
    s->out_segment = rest < s->peer_max_info ? rest : s->peer_max_info;
    s->vs = (uint8_t)((s->acknowledged + 1u) & 7u);
    transmit(s, (uint8_t)(s->vr << 5 | s->acknowledged << 1), s->out + s->out_position, s->out_segment,
             s->out_segment < rest);
}

static void take_information(mw_secondary *s, const uint8_t *info, size_t count, bool more)
{
    s->vr = (uint8_t)((s->vr + 1u) & 7u);
    memcpy(s->in + s->assembled, info, count);
    s->assembled = (uint16_t)(s->assembled + count);
    if (more)
        return;
    count = s->assembled;
    s->assembled = 0;
    if (count)
        mw_coap_message(s, s->in, count);
}

static void numbered(mw_secondary *s, uint8_t control, const uint8_t *info, size_t count, bool more)
{
    bool is_i = !(control & 1u);
    bool in_sequence = is_i && (control >> 1 & 7u) == s->vr;
    if (!is_i && count) {
        reject(s, control, REASON_X);
    } else if (is_i && (count > MW_MAX_INFO || (in_sequence && s->assembled + count > MW_MAX_SDU))) {
        reject(s, control, REASON_Y);
    } else if (!take_nr(s, control >> 5)) {
        reject(s, control, REASON_Z);
    } else {
        s->peer_busy = (control & 0x0Fu) == RNR;
        /* While an answer waits, a new request is not taken: V(R) stays, and the primary sends it again. */
        if (in_sequence && !s->out_length)
            take_information(s, info, count, more);
        if (control & POLL)
            use_turn(s);
    }
}

static void command(mw_secondary *s, uint8_t control, const uint8_t *info, size_t count, bool more)
{
    bool known = !(control & 1u) || (control & 0x0Fu) == RR || (control & 0x0Fu) == RNR;
    uint8_t kind = (uint8_t)(control & ~POLL);
    if (kind == SNRM) {
        accept(s, info, count);
    } else if (kind == DISC) {
        uint8_t answer = s->mode == MW_DISCONNECTED ? DM : UA;
        s->mode = MW_DISCONNECTED;
        s->observed = false;
        forget_link(s);
        transmit(s, answer, NULL, 0, false);
    } else if (s->mode == MW_DISCONNECTED) {
        if (control & POLL)
            transmit(s, DM, NULL, 0, false);
    } else if (s->mode == MW_REJECTING) {
        if (control & POLL)
            transmit(s, FRMR, s->frmr, sizeof s->frmr, false);
    } else if (known) {
        numbered(s, control, info, count, more);
    } else if (kind == UI) {
        if (control & POLL)
            use_turn(s);
    } else {
        reject(s, control, REASON_W);
    }
}

/* What is held cannot be a frame: search it for the next flag (nothing behind the damage is lost). */
static void resynchronise(mw_secondary *s)
{
    uint16_t from = 0;
    while (from < s->held && s->frame[from] != FLAG)
        from++;
    s->in_frame = from < s->held;
    s->held = (uint16_t)(s->in_frame ? s->held - from - 1u : 0u);
    memmove(s->frame, s->frame + from + 1u, s->held);
}

/* 0: more octets are needed; 1: done with what is held; -1: this is no frame. */
static int examine(mw_secondary *s)
{
    const uint8_t *f = s->frame;
    if (s->held && f[0] == FLAG) { /* flags between frames */
        s->held--;
        memmove(s->frame, s->frame + 1, s->held);
        return s->held ? 1 : 0;
    }
    if (s->held >= 1 && f[0] >> 4 != 0xA)
        return -1;
    if (s->held < 2)
        return 0;
    uint16_t length = (uint16_t)((f[0] & 7u) << 8 | f[1]);
    if (length < 7 || length == 8 || length == 9)
        return -1;
    if (s->held >= 4 && !(f[2] & 1u && f[3] & 1u))
        return -1; /* 6.4.2: our address has one octet */
    if (s->held < 7)
        return 0;
    if (crc16(f, 5) != (uint16_t)(f[5] | f[6] << 8))
        return -1;
    if (length > MW_MAX_FRAME) /* more than the UA offered: there is no room to hold it */
        return -1;
    if (s->held <= length)
        return 0;
    if (f[length] != FLAG)
        return -1;
    bool good = length == 7 || crc16(f, length - 2u) == (uint16_t)(f[length - 2] | f[length - 1] << 8);
    if (good && f[2] == ADDRESS && f[3] == ADDRESS)
        command(s, f[4], f + 7, length == 7 ? 0 : length - 9u, (f[0] & 8u) != 0);
    /* The closing flag may open the next frame. */
    s->held = (uint16_t)(s->held - length - 1u);
    memmove(s->frame, s->frame + length + 1u, s->held);
    return s->held ? 1 : 0;
}

static void look(mw_secondary *s)
{
    int verdict = 1;
    while (s->in_frame && verdict) {
        verdict = examine(s);
        if (verdict < 0)
            resynchronise(s);
    }
}

void mw_feed(mw_secondary *s, uint8_t octet, uint32_t now_ms)
{
    mw_poll(s, now_ms);
    s->last_octet_ms = now_ms;
    if (!s->in_frame) {
        s->in_frame = octet == FLAG;
        return;
    }
    s->frame[s->held++] = octet;
    look(s);
}

void mw_poll(mw_secondary *s, uint32_t now_ms)
{
    s->now_ms = now_ms;
    if (s->in_frame && s->held && now_ms - s->last_octet_ms > SILENCE_MS) {
        while (s->held) { /* a false start must not hide the frame behind it */
            resynchronise(s);
            look(s);
        }
        s->in_frame = false;
    }
    if (s->observed && !s->woken && (int32_t)(now_ms - s->due_ms) >= 0) {
        s->woken = true; /* the notification itself is made when the primary asks */
        if (s->board.wake)
            s->board.wake(s->board.context);
    }
}

void mw_init(mw_secondary *s, const mw_board *board, uint32_t now_ms)
{
    memset(s, 0, sizeof *s);
    s->board = *board;
    s->now_ms = now_ms;
    s->peer_max_info = MW_MAX_INFO;
    s->next_mid = 1;
    s->epoch_s = 946684800u; /* 2000-01-01, until the NIC says what time it is */
    s->epoch_at_ms = now_ms;
    s->rebooted = true;
    if (s->board.wake)
        s->board.wake(s->board.context);
}
