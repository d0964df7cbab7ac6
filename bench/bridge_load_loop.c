/* What a bridge costs at least: receives many datagrams at once, publishes them by one write at QoS 1, answers 2.04
 * after PUBACK, stores nothing, knows no repetition, no registry and no reconnecting. Argument: PORT of the broker. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, SIZE = 2048 };
struct slot { struct sockaddr_in from; unsigned char answer[12]; int length; };
static struct slot slots[65536];
static unsigned char in[BATCH][SIZE], out[BATCH * SIZE], answers[65536];

static int option(const unsigned char *d, int end, int *at, int *number, int *length) {
    if (*at >= end || d[*at] == 0xff) return 0;
    int delta = d[*at] >> 4, size = d[*at] & 15;
    ++*at;
    if (delta == 13) delta = 13 + d[(*at)++];
    if (size == 13) size = 13 + d[(*at)++];
    if (delta == 14 || size == 14 || *at + size > end) return 0;
    *number += delta;
    *length = size;
    return 1;
}

static int publish(const unsigned char *d, int end, unsigned id, unsigned char *to) {
    int at = 4 + (d[0] & 15), number = 0, length, segment = 0, mac = 0, mac_length = 0, last = 0, last_length = 0;
    while (option(d, end, &at, &number, &length)) {
        if (number == 11 && segment++ == 1) mac = at, mac_length = length;
        if (number == 11) last = at, last_length = length;
        at += length;
    }
    if (at >= end || !mac || mac_length > 64 || last_length > 64) return 0;
    ++at;
    unsigned char topic[160];
    int n = 0;
    memcpy(topic, "acme/read/", 10), n = 10;
    memcpy(topic + n, d + mac, mac_length), n += mac_length;
    topic[n++] = '/';
    memcpy(topic + n, d + last, last_length), n += last_length;
    int remaining = 2 + n + 2 + end - at, p = 0;
    to[p++] = 0x32;
    for (int r = remaining; ; ) {
        unsigned char octet = r & 0x7f;
        r >>= 7;
        to[p++] = octet | (r ? 0x80 : 0);
        if (!r) break;
    }
    to[p++] = n >> 8, to[p++] = n & 0xff;
    memcpy(to + p, topic, n), p += n;
    to[p++] = id >> 8, to[p++] = id & 0xff;
    memcpy(to + p, d + at, end - at);
    return p + end - at;
}

static void write_all(int fd, const unsigned char *octets, int length) {
    while (length > 0) {
        int n = write(fd, octets, length);
        if (n <= 0) exit(1);
        octets += n, length -= n;
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int one = 1, buffer = 4 << 20, udp = socket(AF_INET, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);
    if (argc < 2) return 2;
    setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (bind(udp, (struct sockaddr *)&address, sizeof address)) return 1;
    getsockname(udp, (struct sockaddr *)&address, &size);
    int port = ntohs(address.sin_port);
    address.sin_port = htons(atoi(argv[1]));
    if (connect(tcp, (struct sockaddr *)&address, sizeof address)) return 1;
    setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    write_all(tcp, (const unsigned char *)"\x10\x12\0\4MQTT\4\2\0\0\0\6c-loop", 20);
    if (read(tcp, answers, 4) != 4 || answers[3]) return 1;
    printf("%d\n", port), fflush(stdout);

    struct mmsghdr messages[BATCH], replies[BATCH];
    struct iovec vectors[BATCH], reply_vectors[BATCH];
    struct sockaddr_in from[BATCH];
    memset(messages, 0, sizeof messages), memset(replies, 0, sizeof replies);
    unsigned id = 0;
    int have = 0;
    struct pollfd fds[2] = { { udp, POLLIN, 0 }, { tcp, POLLIN, 0 } };
    for (;;) {
        if (poll(fds, 2, -1) < 0) return 1;
        if (fds[0].revents) {
            for (int i = 0; i < BATCH; i++) {
                vectors[i] = (struct iovec){ in[i], SIZE };
                messages[i].msg_hdr = (struct msghdr){ &from[i], sizeof from[i], &vectors[i], 1, 0, 0, 0 };
            }
            int count = recvmmsg(udp, messages, BATCH, MSG_DONTWAIT, 0), length = 0;
            for (int i = 0; i < count; i++) {
                const unsigned char *d = in[i];
                int end = messages[i].msg_len, token = d[0] & 15;
                if (end < 5 || d[0] >> 4 != 4 || d[1] != 2 || token > 8) continue;
                id = id % 65535 + 1;
                struct slot *slot = &slots[id];
                slot->from = from[i];
                slot->length = 4 + token;
                memcpy(slot->answer, d, 4 + token);
                slot->answer[0] |= 0x20, slot->answer[1] = 0x44;
                length += publish(d, end, id, out + length);
            }
            write_all(tcp, out, length);
        }
        if (fds[1].revents) {
            int n = read(tcp, answers + have, sizeof answers - have), at = 0, count = 0;
            if (n <= 0) return 0;
            have += n;
            for (; at + 4 <= have; at += 4) {
                struct slot *slot = &slots[answers[at + 2] << 8 | answers[at + 3]];
                reply_vectors[count] = (struct iovec){ slot->answer, slot->length };
                replies[count].msg_hdr = (struct msghdr){ &slot->from, sizeof slot->from, &reply_vectors[count], 1, 0, 0, 0 };
                if (++count == BATCH) sendmmsg(udp, replies, count, 0), count = 0;
            }
            if (count) sendmmsg(udp, replies, count, 0);
            memmove(answers, answers + at, have - at), have -= at;
        }
    }
}
