/* The load of `meshwire bench bridge`: many light NICs and one subscriber, one thread, as light as they can be.
 *
 * The NICs share a socket and have an address each, from 127.1.0.1 on: one system call takes many answers, and another
 * one sends as many notifications. A NIC has `window` confirmable notifications on the way and sends the next one for
 * each 2.04; with a rate, notifications are sent evenly instead, by one NIC after the other. The subscriber counts what
 * the broker delivers, at QoS 0.
 *
 * Arguments: GATEWAY_PORT BROKER_PORT WINDOW WARM_UP_S SLICES SECONDS RATE PROCESS…, as in `bridge_load.Job`.
 * Standard input, lines: CONNECT and SUBSCRIBE in hexadecimal; then for each NIC where the digits of the Observe number
 * stand in its datagram, and the datagram in hexadecimal.
 * Prints a line for each slice: seconds, acknowledged, delivered, repeated, p50 and p99 in ms, own processor time, that of each PROCESS. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, DATAGRAM = 512, DIGITS = 7, SLOTS = 64, MAX_NICS = 4096, MAX_WATCHED = 32, CHANGED = 0x44 };
enum { FIRST_ADDRESS = 0x7f010001 };
static const double PATIENCE_S = 1.0;

struct slot { double sent_at; unsigned number; unsigned short id; };
struct nic { unsigned char datagram[DATAGRAM]; int length, digits_at; unsigned number; struct slot slots[SLOTS]; };
struct control { struct cmsghdr head; struct in_pktinfo info; };
struct figures { double at, own_s, processor_s[MAX_WATCHED]; unsigned long acknowledged, delivered, repeated; };

static struct nic *nics;
static struct figures now_total;
static int nic_count, udp, tcp, watched[MAX_WATCHED], watched_count;
static struct sockaddr_in gateway;
static float *times_s;
static size_t times_count, times_room;

/* Datagrams to be sent by the next system call. */
static unsigned char out[BATCH][DATAGRAM];
static struct mmsghdr out_messages[BATCH];
static struct iovec out_vectors[BATCH];
static struct control out_controls[BATCH];
static int out_count;

static void fail(const char *what) {
    fprintf(stderr, "bridge_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void flush(void) {
    for (int at = 0; at < out_count;) {
        int sent = sendmmsg(udp, out_messages + at, out_count - at, 0);
        if (sent < 0 && errno != EINTR) fail("sendmmsg");
        if (sent > 0) at += sent;
    }
    out_count = 0;
}

static void put(int n, const struct slot *slot) {
    unsigned char *to = out[out_count];
    unsigned number = slot->number;
    memcpy(to, nics[n].datagram, nics[n].length);
    to[2] = slot->id >> 8, to[3] = slot->id & 0xff;
    for (int i = DIGITS - 1; i >= 0; i--, number /= 10) to[nics[n].digits_at + i] = '0' + number % 10;
    out_vectors[out_count].iov_len = nics[n].length;
    out_controls[out_count].info.ipi_spec_dst.s_addr = htonl(FIRST_ADDRESS + n);
    if (++out_count == BATCH) flush();
}

static void send_next(int n, double now) {
    struct nic *nic = &nics[n];
    for (int i = 0; i < SLOTS; i++) {
        struct slot *slot = &nic->slots[i];
        if (slot->number) continue;
        nic->number++;
        *slot = (struct slot){ now, nic->number, nic->number & 0xffff };
        put(n, slot);
        return;
    }
}

static void send_late_again(double now) {
    for (int n = 0; n < nic_count; n++)
        for (int i = 0; i < SLOTS; i++)
            if (nics[n].slots[i].number && now - nics[n].slots[i].sent_at > PATIENCE_S)
                put(n, &nics[n].slots[i]), now_total.repeated++;
    flush();
}

static struct slot *find(int n, unsigned short id) {
    for (int i = 0; i < SLOTS; i++)
        if (nics[n].slots[i].number && nics[n].slots[i].id == id) return &nics[n].slots[i];
    return NULL;
}

static void note_time(double seconds) {
    if (times_count == times_room) {
        times_room = times_room ? 2 * times_room : 1 << 16;
        times_s = realloc(times_s, times_room * sizeof *times_s);
        if (!times_s) fail("memory");
    }
    times_s[times_count++] = (float)seconds;
}

static void take_answers(int is_paced) {
    static unsigned char in[BATCH][64];
    static struct mmsghdr messages[BATCH];
    static struct iovec vectors[BATCH];
    static struct control controls[BATCH];
    for (int i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){ in[i], sizeof in[i] };
        messages[i].msg_hdr = (struct msghdr){ .msg_iov = &vectors[i], .msg_iovlen = 1, .msg_control = &controls[i],
                                               .msg_controllen = sizeof controls[i] };
    }
    int count = recvmmsg(udp, messages, BATCH, MSG_DONTWAIT, NULL);
    double now = now_s();
    for (int i = 0; i < count; i++) {
        int n = (int)(ntohl(controls[i].info.ipi_addr.s_addr) - FIRST_ADDRESS);
        // Requests, too, are passed over: an open page of the console may ask a NIC, and these have nothing to say.
        if (messages[i].msg_len < 4 || n < 0 || n >= nic_count || !(in[i][1] >> 5)) continue;
        if (in[i][1] != CHANGED) {
            fprintf(stderr, "bridge_load: the bridge answers %u.%02u\n", in[i][1] >> 5, in[i][1] & 31);
            exit(1);
        }
        struct slot *slot = find(n, in[i][2] << 8 | in[i][3]);
        if (!slot) continue;
        note_time(now - slot->sent_at);
        slot->number = 0;
        now_total.acknowledged++;
        if (!is_paced) send_next(n, now);
    }
    flush();
}

/* PUBLISH packets that are whole. */
static void take_deliveries(void) {
    static unsigned char in[1 << 18];
    static size_t have;
    ssize_t n = read(tcp, in + have, sizeof in - have);
    if (n <= 0) fail("the broker hangs up");
    have += n;
    size_t at = 0;
    for (;;) {
        size_t begin = at + 1, remaining = 0;
        int shift = 0, more = 1;
        while (more && begin < have) {
            remaining |= (size_t)(in[begin] & 0x7f) << shift, shift += 7;
            more = in[begin++] & 0x80;
        }
        if (more || begin + remaining > have) break;
        now_total.delivered += in[at] >> 4 == 3;
        at = begin + remaining;
    }
    memmove(in, in + at, have - at), have -= at;
}

static void serve(double until, double rate, double *due) {
    static int turn;
    struct pollfd files[2] = { { udp, POLLIN, 0 }, { tcp, POLLIN, 0 } };
    double checked = now_s(), now;
    while ((now = now_s()) < until) {
        if (poll(files, 2, rate > 0 ? 1 : 100) < 0) fail("poll");
        if (files[0].revents) take_answers(rate > 0);
        if (files[1].revents) take_deliveries();
        if (rate > 0) {
            for (now = now_s(); *due <= now; *due += 1 / rate) send_next(turn++ % nic_count, now);
            flush();
        }
        if (now - checked > PATIENCE_S / 2) checked = now, send_late_again(now);
    }
}

static double processor_s(int process) {
    char text[1024];
    unsigned long user = 0, system = 0;
    snprintf(text, sizeof text, "/proc/%d/stat", process);
    FILE *file = fopen(text, "r");
    if (!file) return 0;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    const char *behind_name = strrchr(text, ')');
    if (behind_name)
        sscanf(behind_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    return (double)(user + system) / sysconf(_SC_CLK_TCK);
}

static struct figures look(void) {
    struct figures now = now_total;
    struct rusage own;
    getrusage(RUSAGE_SELF, &own);
    now.own_s = own.ru_utime.tv_sec + own.ru_stime.tv_sec + (own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
    for (int i = 0; i < watched_count; i++) now.processor_s[i] = processor_s(watched[i]);
    now.at = now_s();
    return now;
}

static int by_size(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

static void report(const struct figures *a, const struct figures *b) {
    qsort(times_s, times_count, sizeof *times_s, by_size);
    double p50 = times_count ? times_s[times_count / 2] : 0, p99 = times_count ? times_s[times_count * 99 / 100] : 0;
    printf("%.6f %lu %lu %lu %.3f %.3f %.6f", b->at - a->at, b->acknowledged - a->acknowledged,
           b->delivered - a->delivered, b->repeated - a->repeated, p50 * 1000, p99 * 1000, b->own_s - a->own_s);
    for (int i = 0; i < watched_count; i++) printf(" %.2f", b->processor_s[i] - a->processor_s[i]);
    printf("\n");
    fflush(stdout);
    times_count = 0;
}

static size_t read_hex(const char *text, unsigned char *to, size_t room) {
    size_t n = 0;
    unsigned octet;
    while (n < room && sscanf(text + 2 * n, "%2x", &octet) == 1) to[n++] = octet;
    return n;
}

static void read_nics(void) {
    static char line[4 * DATAGRAM];
    nics = calloc(MAX_NICS, sizeof *nics);
    if (!nics) fail("memory");
    while (nic_count < MAX_NICS && fgets(line, sizeof line, stdin)) {
        struct nic *nic = &nics[nic_count++];
        char *hex;
        nic->digits_at = (int)strtol(line, &hex, 10);
        nic->length = (int)read_hex(hex + 1, nic->datagram, DATAGRAM);
        if (nic->digits_at + DIGITS > nic->length) fail("a datagram without digits");
        for (int i = 0; i < DIGITS; i++) nic->number = nic->number * 10 + nic->datagram[nic->digits_at + i] - '0';
    }
}

static void open_socket(int port) {
    struct sockaddr_in own = { .sin_family = AF_INET };
    int one = 1, octets = 4 << 20;
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets);
    setsockopt(udp, IPPROTO_IP, IP_PKTINFO, &one, sizeof one);
    if (bind(udp, (struct sockaddr *)&own, sizeof own)) fail("bind");
    gateway = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
    gateway.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < BATCH; i++) {
        out_vectors[i].iov_base = out[i];
        out_controls[i].head = (struct cmsghdr){ CMSG_LEN(sizeof(struct in_pktinfo)), IPPROTO_IP, IP_PKTINFO };
        out_messages[i].msg_hdr = (struct msghdr){ .msg_name = &gateway, .msg_namelen = sizeof gateway,
                                                   .msg_iov = &out_vectors[i], .msg_iovlen = 1,
                                                   .msg_control = &out_controls[i],
                                                   .msg_controllen = sizeof out_controls[i] };
    }
}

static void subscribe(int port) {
    static char line[4096];
    enum { CONNACK_AND_SUBACK = 4 + 5 };
    unsigned char hello[2048], answer[CONNACK_AND_SUBACK];
    struct sockaddr_in broker = { .sin_family = AF_INET, .sin_port = htons(port) };
    broker.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!fgets(line, sizeof line, stdin)) fail("no CONNECT");
    ssize_t length = read_hex(line, hello, sizeof hello);
    tcp = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(tcp, (struct sockaddr *)&broker, sizeof broker) || write(tcp, hello, length) != length) fail("connect");
    if (recv(tcp, answer, sizeof answer, MSG_WAITALL) != sizeof answer || answer[3]) fail("the broker refuses");
}

int main(int argc, char **argv) {
    if (argc < 8) return 2;
    int window = atoi(argv[3]), slices = atoi(argv[5]);
    double warm_up = atof(argv[4]), seconds = atof(argv[6]), rate = atof(argv[7]);
    for (int i = 8; i < argc && watched_count < MAX_WATCHED; i++) watched[watched_count++] = atoi(argv[i]);
    open_socket(atoi(argv[1]));
    subscribe(atoi(argv[2]));
    read_nics();
    double begin = now_s(), due = begin;
    for (int i = 0; i < window && rate <= 0; i++)
        for (int n = 0; n < nic_count; n++) send_next(n, begin);
    flush();
    serve(begin + warm_up, rate, &due);
    times_count = 0;
    struct figures before = look();
    while (slices-- > 0) {
        serve(before.at + seconds, rate, &due);
        struct figures after = look();
        report(&before, &after);
        before = after;
    }
    return 0;
}
