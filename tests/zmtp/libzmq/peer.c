// One libzmq socket that does what its standard input says, line by line, and
// answers each line with one on its standard output. Bytes are written in hex, "-"
// for none. It ends with its input.
//
//   open TYPE                  PUB, SUB, XPUB or XSUB
//   number OPTION VALUE        sets an option by its number in zmq.h
//   bytes OPTION HEX           the same with bytes
//   bind ENDPOINT              answers with the endpoint in use
//   connect ENDPOINT, disconnect ENDPOINT, unbind ENDPOINT
//   subscribe HEX, cancel HEX
//   send HEX…                  one frame each
//   receive                    waits for a message: HEX…
//   flood COUNT FIRST SECOND HEX
//                              sends COUNT messages: a frame of FIRST bytes with the
//                              topic and a big-endian number of 8 bytes in it, and
//                              one of SECOND bytes, if that is not negative
//   count LAST LENGTH          receives what flood has sent, up to number LAST, behind
//                              a topic of LENGTH bytes: how many came, how many of
//                              them out of order
//   keys                       makes a pair: PUBLIC SECRET

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

static void *context, *sock;

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
    exit(1);
}

static void check(int rc, const char *what)
{
    if (rc < 0)
        fail(what);
}

static int digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

// unhex turns the word into bytes, in its place.
static size_t unhex(char *word)
{
    if (strcmp(word, "-") == 0)
        return 0;
    size_t n = strlen(word) / 2;
    for (size_t i = 0; i < n; i++)
        word[i] = (char) (digit(word[2 * i]) << 4 | digit(word[2 * i + 1]));
    return n;
}

static void put_hex(const unsigned char *p, size_t n)
{
    if (n == 0)
        putchar('-');
    for (size_t i = 0; i < n; i++)
        printf("%02x", p[i]);
}

static char *word(void) { return strtok(NULL, " \n"); }
static long number(void) { return atol(word()); }

static void open_socket(const char *type)
{
    int kind = strcmp(type, "PUB") == 0   ? ZMQ_PUB
               : strcmp(type, "SUB") == 0 ? ZMQ_SUB
               : strcmp(type, "XPUB") == 0 ? ZMQ_XPUB
                                           : ZMQ_XSUB;
    sock = zmq_socket(context, kind);
    if (!sock)
        fail("open");
}

static void bind_socket(const char *endpoint)
{
    char actual[256];
    size_t size = sizeof actual;
    check(zmq_bind(sock, endpoint), "bind");
    check(zmq_getsockopt(sock, ZMQ_LAST_ENDPOINT, actual, &size), "endpoint");
    puts(actual);
}

// subscribe works on a SUB by option, on an XSUB by message.
static void subscribe(int on, char *prefix)
{
    size_t n = unhex(prefix);
    if (zmq_setsockopt(sock, on ? ZMQ_SUBSCRIBE : ZMQ_UNSUBSCRIBE, prefix, n) == 0)
        return;
    char *message = malloc(n + 1);
    message[0] = (char) on;
    memcpy(message + 1, prefix, n);
    check(zmq_send(sock, message, n + 1, 0), "subscribe");
    free(message);
}

static void send_frames(void)
{
    char *frame = word();
    while (frame) {
        char *next = word();
        size_t n = unhex(frame);
        check(zmq_send(sock, frame, n, next ? ZMQ_SNDMORE : 0), "send");
        frame = next;
    }
}

static void receive(void)
{
    int more = 1;
    size_t size = sizeof more;
    while (more) {
        zmq_msg_t m;
        zmq_msg_init(&m);
        check(zmq_msg_recv(&m, sock, 0), "receive");
        put_hex(zmq_msg_data(&m), zmq_msg_size(&m));
        zmq_msg_close(&m);
        check(zmq_getsockopt(sock, ZMQ_RCVMORE, &more, &size), "more");
        putchar(more ? ' ' : '\n');
    }
}

static void flood(void)
{
    long count = number(), first = number(), second = number();
    char *topic = word();
    size_t n = unhex(topic);
    unsigned char *frame = calloc(1, first), *rest = calloc(1, second > 0 ? second : 1);
    memcpy(frame, topic, n);
    for (long i = 0; i < count; i++) {
        for (int b = 0; b < 8; b++)
            frame[n + b] = (unsigned char) ((uint64_t) i >> (56 - 8 * b));
        check(zmq_send(sock, frame, first, second >= 0 ? ZMQ_SNDMORE : 0), "flood");
        if (second >= 0)
            check(zmq_send(sock, rest, second, 0), "flood");
    }
    free(frame);
    free(rest);
}

static void count(void)
{
    long last = number(), length = number(), got = 0, disorder = 0;
    int64_t before = -1;
    while (before < last) {
        zmq_msg_t m;
        zmq_msg_init(&m);
        check(zmq_msg_recv(&m, sock, 0), "count");
        unsigned char *p = zmq_msg_data(&m);
        int64_t n = 0;
        for (int b = 0; b < 8; b++)
            n = n << 8 | p[length + b];
        disorder += n <= before;
        before = n;
        got++;
        int more = zmq_msg_more(&m);
        zmq_msg_close(&m);
        while (more) {
            zmq_msg_init(&m);
            check(zmq_msg_recv(&m, sock, 0), "count");
            more = zmq_msg_more(&m);
            zmq_msg_close(&m);
        }
    }
    printf("%ld %ld\n", got, disorder);
}

static void keys(void)
{
    char public[41], secret[41];
    check(zmq_curve_keypair(public, secret), "keys");
    printf("%s %s\n", public, secret);
}

// perform does one command. Those without an answer of their own say "done".
static void perform(const char *command)
{
    if (strcmp(command, "bind") == 0) {
        bind_socket(word());
        return;
    }
    if (strcmp(command, "receive") == 0) {
        receive();
        return;
    }
    if (strcmp(command, "count") == 0) {
        count();
        return;
    }
    if (strcmp(command, "keys") == 0) {
        keys();
        return;
    }
    if (strcmp(command, "open") == 0) {
        open_socket(word());
    } else if (strcmp(command, "number") == 0) {
        int option = (int) number(), value = (int) number();
        check(zmq_setsockopt(sock, option, &value, sizeof value), "number");
    } else if (strcmp(command, "bytes") == 0) {
        int option = (int) number();
        char *value = word();
        size_t n = unhex(value);
        check(zmq_setsockopt(sock, option, value, n), "bytes");
    } else if (strcmp(command, "connect") == 0) {
        check(zmq_connect(sock, word()), "connect");
    } else if (strcmp(command, "disconnect") == 0) {
        check(zmq_disconnect(sock, word()), "disconnect");
    } else if (strcmp(command, "unbind") == 0) {
        check(zmq_unbind(sock, word()), "unbind");
    } else if (strcmp(command, "subscribe") == 0) {
        subscribe(1, word());
    } else if (strcmp(command, "cancel") == 0) {
        subscribe(0, word());
    } else if (strcmp(command, "send") == 0) {
        send_frames();
    } else if (strcmp(command, "flood") == 0) {
        flood();
    } else {
        fprintf(stderr, "what is %s?\n", command);
        exit(2);
    }
    puts("done");
}

// next_line waits for a command. Meanwhile libzmq works: it does what its own
// threads ask of a socket, such as telling a new peer the subscriptions, only in
// calls that its owner makes. ZMQ_POLLERR means nothing on a socket.
static int next_line(char **line, size_t *size)
{
    zmq_pollitem_t items[] = {{NULL, 0, ZMQ_POLLIN | ZMQ_POLLERR, 0}, {sock, 0, ZMQ_POLLERR, 0}};
    check(zmq_poll(items, sock ? 2 : 1, -1), "poll");
    return getline(line, size, stdin) > 0;
}

int main(void)
{
    char *line = NULL;
    size_t size = 0;
    context = zmq_ctx_new();
    setvbuf(stdin, NULL, _IONBF, 0); // What poll does not see must not wait in a buffer.
    while (next_line(&line, &size)) {
        char *command = strtok(line, " \n");
        if (!command)
            continue;
        perform(command);
        fflush(stdout);
    }
    if (sock)
        zmq_close(sock);
    zmq_ctx_term(context);
    free(line);
    return 0;
}
