/* A complete sensor board's end of the line: HDLC secondary (frame format type 3) and CoAP server.
 *
 * Does:     takes octets one at a time, answers through one callback; keeps one link, one observer, one CoAP exchange.
 * Does not: allocate, block, call the system, or speak unasked.
 * Caller owes: mw_feed for each octet of the UART; mw_poll often (at least every 20 ms) with a clock that goes forward;
 *           an output callback that takes every octet it is given, in order.
 *
 * Clauses are those of IEC 62056-46 (frames and link), ISO/IEC 13239 (procedure), RFC 7252, 7641, 7959 (CoAP).
 */
#ifndef MESHWIRE_SECONDARY_H
#define MESHWIRE_SECONDARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MW_MAX_INFO 128u  /* longest information field, both ways; the default of the standard */
#define MW_MAX_SDU 256u   /* longest CoAP message, in segments where it is above MW_MAX_INFO */
#define MW_MAX_FRAME (11u + MW_MAX_INFO)

typedef void (*mw_output_fn)(void *context, const uint8_t *octets, size_t count);
typedef int32_t (*mw_read_fn)(void *context); /* the sensor: hundredths of a degree Celsius */
typedef void (*mw_wake_fn)(void *context);    /* pulse the wake line; may be NULL */

typedef struct {
    mw_output_fn output;
    mw_read_fn read_temperature;
    mw_wake_fn wake;
    void *context;
    uint32_t period_ms; /* between notifications */
} mw_board;

/* The state of the link as the standard names it. */
typedef enum { MW_DISCONNECTED, MW_NORMAL, MW_REJECTING } mw_mode;

typedef struct {
    mw_board board;
    uint32_t now_ms;
    /* receiver */
    uint32_t last_octet_ms;
    uint16_t held;
    uint8_t frame[MW_MAX_FRAME + 2u]; /* what came since the opening flag, flag excluded */
    bool in_frame;
    /* link */
    mw_mode mode;
    uint8_t vs, vr;          /* V(S), V(R) */
    uint8_t acknowledged;    /* V(A): everything before it was received by the primary */
    uint8_t frmr[3];
    uint16_t peer_max_info;
    uint16_t assembled;      /* octets of in[] from segments so far */
    bool peer_busy;
    uint8_t in[MW_MAX_SDU];
    /* one message on its way to the primary */
    uint8_t out[MW_MAX_SDU];
    uint16_t out_length;
    uint16_t out_position;   /* start of the segment that is not acknowledged yet */
    uint16_t out_segment;    /* length of that segment once it was sent, else 0 */
    /* CoAP */
    uint8_t answer[MW_MAX_SDU]; /* the last answer to a CON, for a duplicate (RFC 7252, 4.5) */
    uint16_t answer_length, answer_mid;
    uint16_t next_mid, notification_mid;
    uint8_t token[8];
    uint8_t token_length;
    bool observed, rebooted, woken;
    uint32_t observe_number;
    uint32_t due_ms;
    uint32_t epoch_s, epoch_at_ms; /* the clock: epoch_s was right at epoch_at_ms */
} mw_secondary;

void mw_init(mw_secondary *s, const mw_board *board, uint32_t now_ms);
void mw_feed(mw_secondary *s, uint8_t octet, uint32_t now_ms);
void mw_poll(mw_secondary *s, uint32_t now_ms);

/* Between the two files: coap.c answers one message in s->in into s->out; s->out_length is 0 for no answer. */
void mw_coap_message(mw_secondary *s, const uint8_t *message, size_t length);
void mw_coap_idle(mw_secondary *s);  /* a chance to put a message of the board's own into s->out */
uint32_t mw_epoch(const mw_secondary *s);

#endif
