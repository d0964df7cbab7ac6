/* CoAP server of the board: /.well-known/core, /sys/time, /arduino/temp with Observe, and the reboot message.
 *
 * One message in, at most one out (RFC 7252). The last answer to a CON is kept, so that a duplicate is answered alike
 * and not executed again (section 4.5).
 */
#include "secondary.h"

#include <string.h>

enum { CON, NON, ACK, RST };
enum { GET = 1, PUT = 3, CHANGED = 0x44, CONTENT = 0x45, BAD_REQUEST = 0x80, BAD_OPTION = 0x82, NOT_FOUND = 0x84,
       NOT_ALLOWED = 0x85, NOT_ACCEPTABLE = 0x86, NO_PROXY = 0xA5 };
enum { URI_HOST = 3, OBSERVE = 6, URI_PORT = 7, URI_PATH = 11, CONTENT_FORMAT = 12, MAX_AGE = 14, URI_QUERY = 15,
       ACCEPT = 17, BLOCK2 = 23, PROXY_URI = 35, PROXY_SCHEME = 39 };
enum { LINK_FORMAT = 40, OCTET_STREAM = 42, CBOR = 60 };

#define NONE 0xFFFFFFFFu
#define LONGEST_TOKEN 8u
#define MAX_PATH 32u

static const char LINKS[] = "</sys/time>;rt=\"time\";ct=42,</arduino/temp>;rt=\"temp\";if=\"sensor\";ct=60;obs";

typedef struct {
    uint8_t type, code, token_length;
    uint16_t mid;
    const uint8_t *token, *payload;
    size_t payload_length;
    char path[MAX_PATH]; /* with / before each segment */
    bool path_too_long, has_query, query_is_sens;
    uint32_t observe, accept, block2;
    uint8_t refusal;
} request;

typedef struct {
    uint8_t code;
    uint32_t format, observe, max_age, block2;
    const uint8_t *body;
    size_t length;
} reply;

uint32_t mw_epoch(const mw_secondary *s)
{
    return s->epoch_s + (s->now_ms - s->epoch_at_ms) / 1000u;
}

/* ---- reading */

static uint32_t read_uint(const uint8_t *octets, size_t count)
{
    uint32_t value = 0;
    while (count--)
        value = value << 8 | *octets++;
    return value;
}

static bool extended(const uint8_t *m, size_t length, size_t *at, uint32_t *value)
{
    if (*value < 13)
        return true;
    size_t size = *value == 13 ? 1u : 2u;
    if (*value == 15 || *at + size > length)
        return false;
    *value = read_uint(m + *at, size) + (size == 1 ? 13u : 269u);
    *at += size;
    return true;
}

static void take_path(request *r, const uint8_t *value, size_t length)
{
    size_t have = strlen(r->path);
    if (have + length + 2u > sizeof r->path || memchr(value, 0, length)) {
        r->path_too_long = true;
        return;
    }
    r->path[have] = '/';
    memcpy(r->path + have + 1u, value, length);
    r->path[have + 1u + length] = '\0';
}

/* Section 5.4.1: an unknown critical option (odd number) refuses the request, an elective one is passed over. */
static void take_option(request *r, uint32_t number, const uint8_t *value, size_t length)
{
    switch (number) {
    case URI_PATH: take_path(r, value, length); break;
    case URI_QUERY:
        r->query_is_sens = !r->has_query && length == 4 && !memcmp(value, "sens", 4);
        r->has_query = true;
        break;
    case OBSERVE: r->observe = length <= 3 ? read_uint(value, length) : NONE; break;
    case ACCEPT: r->accept = length <= 2 ? read_uint(value, length) : 0xFFFFu; break;
    case BLOCK2:
        if (length > 3 || (length && (value[length - 1] & 7u) == 7u))
            r->refusal = BAD_REQUEST; /* RFC 7959, 2.2: SZX 7 is reserved */
        else
            r->block2 = read_uint(value, length);
        break;
    case URI_HOST: case URI_PORT: break;
    case PROXY_URI: case PROXY_SCHEME: r->refusal = NO_PROXY; break;
    default:
        if (number & 1u)
            r->refusal = BAD_OPTION;
    }
}

static bool read_request(const uint8_t *m, size_t length, request *r)
{
    size_t at = 4u + r->token_length;
    uint32_t number = 0;
    if (at > length)
        return false;
    while (at < length && m[at] != 0xFF) {
        uint32_t delta = m[at] >> 4, size = m[at] & 15u;
        at++;
        if (!extended(m, length, &at, &delta) || !extended(m, length, &at, &size) || size > length - at)
            return false;
        number += delta;
        if (number > 0xFFFFu)
            return false;
        take_option(r, number, m + at, size);
        at += size;
    }
    if (at < length) {
        r->payload = m + at + 1u;
        r->payload_length = length - at - 1u;
        return r->payload_length > 0; /* section 3: a marker without payload is a format error */
    }
    return true;
}

/* ---- writing */

static size_t put_header(uint8_t *out, uint8_t type, uint8_t code, uint16_t mid, const uint8_t *token, uint8_t size)
{
    out[0] = (uint8_t)(0x40u | (unsigned)type << 4 | size);
    out[1] = code;
    out[2] = (uint8_t)(mid >> 8);
    out[3] = (uint8_t)mid;
    memcpy(out + 4, token, size);
    return 4u + size;
}

static size_t put_option(uint8_t *out, size_t at, uint32_t *last, uint32_t number, const void *value, size_t length)
{
    uint32_t delta = number - *last;
    out[at++] = (uint8_t)((delta < 13 ? delta : 13u) << 4 | length);
    if (delta >= 13)
        out[at++] = (uint8_t)(delta - 13u);
    memcpy(out + at, value, length);
    *last = number;
    return at + length;
}

static size_t put_uint(uint8_t *out, size_t at, uint32_t *last, uint32_t number, uint32_t value)
{
    uint8_t octets[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    size_t skip = 0;
    if (value == NONE)
        return at;
    while (skip < 4 && !octets[skip])
        skip++;
    return put_option(out, at, last, number, octets + skip, 4u - skip);
}

/* RFC 7959, 2.4: with Block2 in the request, the block that it asks for, no larger. */
static void cut_block(reply *a, uint32_t block2)
{
    size_t size = (size_t)16u << (block2 & 7u), start = (size_t)(block2 >> 4) * size;
    if (a->code != CONTENT || block2 == NONE)
        return;
    if (start >= a->length && start) {
        *a = (reply){BAD_REQUEST, NONE, NONE, NONE, NONE, NULL, 0};
        return;
    }
    size_t rest = a->length - start;
    a->block2 = (block2 & ~8u) | (rest > size ? 8u : 0u);
    a->body += start;
    a->length = rest > size ? size : rest;
}

static void put_reply(mw_secondary *s, uint8_t type, uint16_t mid, const uint8_t *token, uint8_t size, const reply *a)
{
    uint32_t last = 0;
    size_t at = put_header(s->out, type, a->code, mid, token, size);
    at = put_uint(s->out, at, &last, OBSERVE, a->observe);
    at = put_uint(s->out, at, &last, CONTENT_FORMAT, a->format);
    at = put_uint(s->out, at, &last, MAX_AGE, a->max_age);
    at = put_uint(s->out, at, &last, BLOCK2, a->block2);
    if (a->length) {
        s->out[at++] = 0xFF;
        memcpy(s->out + at, a->body, a->length);
    }
    s->out_length = (uint16_t)(at + a->length);
    s->out_position = s->out_segment = 0;
}

static void put_empty(mw_secondary *s, uint8_t type, uint16_t mid)
{
    s->out_length = (uint16_t)put_header(s->out, type, 0, mid, s->out, 0);
    s->out_position = s->out_segment = 0;
}

/* ---- resources */

static size_t put_number(uint8_t *out, uint32_t value, unsigned digits)
{
    uint8_t text[10];
    size_t count = 0;
    do {
        text[count++] = (uint8_t)('0' + value % 10u);
        value /= 10u;
    } while (value || count < digits);
    for (size_t i = 0; i < count; i++)
        out[i] = text[count - 1u - i];
    return count;
}

/* {0: "temp", 1: "epoch,value,C"}: a CBOR map of two pairs. */
static size_t put_record(mw_secondary *s, uint8_t *out)
{
    static const uint8_t HEAD[] = {0xA2, 0x00, 0x64, 't', 'e', 'm', 'p', 0x01, 0x78, 0x00};
    int32_t hundredths = s->board.read_temperature(s->board.context);
    uint32_t size = (uint32_t)(hundredths < 0 ? -hundredths : hundredths);
    size_t at = sizeof HEAD;
    memcpy(out, HEAD, sizeof HEAD);
    at += put_number(out + at, mw_epoch(s), 1);
    out[at++] = ',';
    if (hundredths < 0)
        out[at++] = '-';
    at += put_number(out + at, size / 100u, 1);
    out[at++] = '.';
    at += put_number(out + at, size % 100u, 2);
    out[at++] = ',';
    out[at++] = 'C';
    out[9] = (uint8_t)(at - sizeof HEAD); /* 78 nn: text of nn octets */
    return at;
}

static void temperature(mw_secondary *s, const request *r, reply *a, uint8_t *scratch)
{
    if (r->code != GET) {
        a->code = NOT_ALLOWED;
    } else if (r->has_query && !r->query_is_sens) {
        a->code = BAD_REQUEST;
    } else if (r->accept != NONE && r->accept != CBOR) {
        a->code = NOT_ACCEPTABLE;
    } else {
        *a = (reply){CONTENT, CBOR, NONE, s->board.period_ms / 1000u * 3u / 2u + 1u, NONE, scratch, 0};
        a->length = put_record(s, scratch);
        if (r->observe == 0 && !(r->block2 != NONE && r->block2 >> 4)) {
            s->observed = true;
            s->token_length = r->token_length;
            memcpy(s->token, r->token, r->token_length);
            s->due_ms = s->now_ms + s->board.period_ms;
            s->woken = false;
            a->observe = ++s->observe_number & 0xFFFFFFu;
        } else if (r->observe == 1 && s->token_length == r->token_length
                   && !memcmp(s->token, r->token, r->token_length)) {
            s->observed = false;
        }
    }
}

static void time_resource(mw_secondary *s, const request *r, reply *a, uint8_t *scratch)
{
    const uint8_t *p = r->payload;
    if (r->code == GET) {
        uint32_t epoch = mw_epoch(s);
        for (int i = 0; i < 4; i++)
            scratch[i] = (uint8_t)(epoch >> (24 - 8 * i));
        *a = (reply){CONTENT, OCTET_STREAM, NONE, NONE, NONE, scratch, 4};
        if (r->accept != NONE && r->accept != OCTET_STREAM)
            *a = (reply){NOT_ACCEPTABLE, NONE, NONE, NONE, NONE, NULL, 0};
    } else if (r->code != PUT) {
        a->code = NOT_ALLOWED;
    } else if (r->payload_length != 10 || (p[0] != 6 && p[0] != 7) || p[1] != 8) {
        a->code = BAD_REQUEST; /* 06 08 seconds milliseconds, or 07 08 for a difference */
    } else {
        uint32_t seconds = read_uint(p + 2, 4);
        s->epoch_s = p[0] == 6 ? seconds : mw_epoch(s) + seconds;
        s->epoch_at_ms = s->now_ms;
        a->code = CHANGED;
    }
}

static void discovery(const request *r, reply *a)
{
    if (r->code != GET)
        a->code = NOT_ALLOWED;
    else if (r->accept != NONE && r->accept != LINK_FORMAT)
        a->code = NOT_ACCEPTABLE;
    else
        *a = (reply){CONTENT, LINK_FORMAT, NONE, NONE, NONE, (const uint8_t *)LINKS, sizeof LINKS - 1u};
}

static void respond(mw_secondary *s, const request *r, reply *a, uint8_t *scratch)
{
    if (r->refusal)
        a->code = r->refusal;
    else if (r->path_too_long)
        a->code = NOT_FOUND;
    else if (!strcmp(r->path, "/.well-known/core"))
        discovery(r, a);
    else if (!strcmp(r->path, "/sys/time"))
        time_resource(s, r, a, scratch);
    else if (!strcmp(r->path, "/arduino/temp"))
        temperature(s, r, a, scratch);
    else
        a->code = NOT_FOUND;
}

/* ---- messages */

static void answer_request(mw_secondary *s, request *r, const uint8_t *message, size_t length)
{
    uint8_t scratch[48];
    reply a = {NOT_FOUND, NONE, NONE, NONE, NONE, NULL, 0};
    if (!read_request(message, length, r)) {
        if (r->type == CON)
            put_empty(s, RST, r->mid);
        return;
    }
    respond(s, r, &a, scratch);
    cut_block(&a, r->block2);
    put_reply(s, r->type == CON ? ACK : NON, r->type == CON ? r->mid : s->next_mid++, r->token, r->token_length, &a);
    if (r->type == CON) {
        memcpy(s->answer, s->out, s->out_length);
        s->answer_length = s->out_length;
        s->answer_mid = r->mid;
    }
}

void mw_coap_message(mw_secondary *s, const uint8_t *m, size_t length)
{
    request r = {.observe = NONE, .accept = NONE, .block2 = NONE};
    if (length < 4 || m[0] >> 6 != 1)
        return; /* section 3: another version is ignored */
    r.type = m[0] >> 4 & 3u;
    r.token_length = m[0] & 15u;
    r.code = m[1];
    r.mid = (uint16_t)(m[2] << 8 | m[3]);
    r.token = m + 4;
    if (r.type == RST && s->observed && r.mid == s->notification_mid)
        s->observed = false; /* RFC 7641, 3.6 */
    if (r.type == ACK || r.type == RST)
        return;
    bool is_request = r.code > 0 && r.code < 32;
    if (!is_request || r.token_length > LONGEST_TOKEN) {
        if (r.type == CON)
            put_empty(s, RST, r.mid); /* section 4.2: a ping, or what cannot be processed */
    } else if (r.type == CON && s->answer_length && r.mid == s->answer_mid) {
        memcpy(s->out, s->answer, s->answer_length);
        s->out_length = s->answer_length;
        s->out_position = s->out_segment = 0;
    } else {
        answer_request(s, &r, m, length);
    }
}

static void put_reboot(mw_secondary *s)
{
    uint32_t last = 0;
    size_t at = put_header(s->out, NON, PUT, s->next_mid++, s->out, 0);
    at = put_option(s->out, at, &last, URI_PATH, "sys", 3);
    at = put_option(s->out, at, &last, URI_PATH, "snsr", 4);
    at = put_option(s->out, at, &last, URI_QUERY, "ev=rbt", 6);
    s->out_length = (uint16_t)at;
    s->out_position = s->out_segment = 0;
}

void mw_coap_idle(mw_secondary *s)
{
    uint8_t scratch[48];
    if (s->rebooted) {
        s->rebooted = false;
        put_reboot(s);
    } else if (s->observed && (int32_t)(s->now_ms - s->due_ms) >= 0) {
        reply a = {CONTENT, CBOR, 0, s->board.period_ms / 1000u * 3u / 2u + 1u, NONE, scratch, 0};
        a.observe = ++s->observe_number & 0xFFFFFFu;
        a.length = put_record(s, scratch);
        s->notification_mid = s->next_mid++;
        s->due_ms += s->board.period_ms; /* an absolute schedule: intervals do not drift with the polls */
        if ((int32_t)(s->now_ms - s->due_ms) >= 0)
            s->due_ms = s->now_ms + s->board.period_ms;
        s->woken = false;
        put_reply(s, NON, s->notification_mid, s->token, s->token_length, &a);
    }
}
