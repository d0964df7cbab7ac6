/* The board on a host: octets on standard input and output, or on a pseudo-terminal (--pty prints its name).
 * This file may call the system; hdlc.c and coap.c may not. */
#define _XOPEN_SOURCE 600
#include "secondary.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int out_descriptor = STDOUT_FILENO;

static void output(void *context, const uint8_t *octets, size_t count)
{
    (void)context;
    while (count) {
        ssize_t written = write(out_descriptor, octets, count);
        if (written <= 0)
            exit(1);
        octets += written;
        count -= (size_t)written;
    }
}

static int32_t temperature(void *context)
{
    (void)context;
    return 2250;
}

static uint32_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u);
}

static int open_pseudo_terminal(void)
{
    struct termios raw;
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master))
        return -1;
    /* Kept open, or the master would hang up whenever nobody has the other side open. */
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    if (slave < 0 || tcgetattr(slave, &raw))
        return -1;
    raw.c_iflag = raw.c_oflag = raw.c_lflag = 0;
    raw.c_cc[VMIN] = 1;
    tcsetattr(slave, TCSANOW, &raw);
    printf("%s\n", ptsname(master));
    fflush(stdout);
    return master;
}

int main(int argc, char **argv)
{
    static mw_secondary secondary;
    mw_board board = {output, temperature, NULL, NULL, 1000};
    int in = STDIN_FILENO;
    if (argc > 1 && !strcmp(argv[1], "--size")) {
        printf("%zu\n", sizeof secondary);
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "--pty"))
        in = out_descriptor = open_pseudo_terminal();
    if (in < 0) {
        fputs("no pseudo-terminal\n", stderr);
        return 1;
    }
    mw_init(&secondary, &board, milliseconds());
    for (;;) {
        struct pollfd ready = {in, POLLIN, 0};
        uint8_t octets[256];
        if (poll(&ready, 1, 10) > 0) {
            ssize_t count = read(in, octets, sizeof octets);
            if (count <= 0)
                return 0;
            for (ssize_t i = 0; i < count; i++)
                mw_feed(&secondary, octets[i], milliseconds());
        }
        mw_poll(&secondary, milliseconds());
    }
}
