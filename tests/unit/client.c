/* The client room: both state machines against tables written by hand, the wait before a retry, the
   clock. What the whole client does is tested through the public functions in tests/api. */
#define PUSHER_IMPLEMENTATION
#include "pusher.h"

#include "fake.h"

#define STAY {0, 0, -1}
#define GO(to, actions) {(to), (actions), 1}

struct expected {
    int to;
    unsigned actions;
    int written; /* 0: this pair is missing in the table; -1: nothing changes */
};

/* ---- the connection's state machine --------------------------------------------------------- */

#define OPEN PSH_DO_OPEN
#define DROP PSH_DO_DROP
#define BYE PSH_DO_BYE
#define RESET PSH_DO_RESET
#define RETRY PSH_DO_RETRY

static const struct expected moves[PSH_PHASES][PSH_SIGNALS] = {
    [PSH_IDLE] = {
        [PSH_UP] = GO(PSH_OPENING, OPEN),
        [PSH_DOWN] = STAY, [PSH_NOW] = STAY, [PSH_READY] = STAY, [PSH_UPGRADED] = STAY,
        [PSH_GREETED] = STAY, [PSH_LOST] = STAY, [PSH_QUIT] = STAY, [PSH_STOP] = STAY,
        [PSH_ENDED] = STAY, [PSH_TIMER] = STAY,
    },
    [PSH_OPENING] = {
        [PSH_UP] = STAY,
        [PSH_DOWN] = GO(PSH_IDLE, DROP),
        [PSH_NOW] = STAY,
        [PSH_READY] = GO(PSH_UPGRADING, PSH_DO_UPGRADE),
        [PSH_UPGRADED] = STAY, [PSH_GREETED] = STAY,
        [PSH_LOST] = GO(PSH_WAITING, DROP | RETRY),
        [PSH_QUIT] = GO(PSH_WAITING, DROP | RETRY),
        [PSH_STOP] = GO(PSH_IDLE, DROP),
        [PSH_ENDED] = STAY, [PSH_TIMER] = STAY,
    },
    [PSH_UPGRADING] = {
        [PSH_UP] = STAY,
        [PSH_DOWN] = GO(PSH_IDLE, DROP),
        [PSH_NOW] = STAY, [PSH_READY] = STAY,
        [PSH_UPGRADED] = GO(PSH_GREETING, 0),
        [PSH_GREETED] = STAY,
        [PSH_LOST] = GO(PSH_WAITING, DROP | RETRY),
        [PSH_QUIT] = GO(PSH_WAITING, DROP | RETRY), /* no WebSocket yet: nothing to say */
        [PSH_STOP] = GO(PSH_IDLE, DROP),
        [PSH_ENDED] = STAY, [PSH_TIMER] = STAY,
    },
    [PSH_GREETING] = {
        [PSH_UP] = STAY,
        [PSH_DOWN] = GO(PSH_LEAVING, BYE),
        [PSH_NOW] = STAY, [PSH_READY] = STAY, [PSH_UPGRADED] = STAY,
        [PSH_GREETED] = GO(PSH_ONLINE, PSH_DO_WELCOME),
        [PSH_LOST] = GO(PSH_WAITING, DROP | RETRY),
        [PSH_QUIT] = GO(PSH_CLOSING, BYE | RETRY),
        [PSH_STOP] = GO(PSH_LEAVING, BYE),
        [PSH_ENDED] = STAY, [PSH_TIMER] = STAY,
    },
    [PSH_ONLINE] = {
        [PSH_UP] = STAY,
        [PSH_DOWN] = GO(PSH_LEAVING, BYE | RESET),
        [PSH_NOW] = GO(PSH_ONLINE, PSH_DO_CHECK),
        [PSH_READY] = STAY, [PSH_UPGRADED] = STAY, [PSH_GREETED] = STAY,
        [PSH_LOST] = GO(PSH_WAITING, RESET | DROP | RETRY),
        [PSH_QUIT] = GO(PSH_CLOSING, BYE | RESET | RETRY),
        [PSH_STOP] = GO(PSH_LEAVING, BYE | RESET),
        [PSH_ENDED] = STAY, [PSH_TIMER] = STAY,
    },
    [PSH_CLOSING] = {
        [PSH_UP] = STAY,
        [PSH_DOWN] = GO(PSH_LEAVING, 0),
        [PSH_NOW] = GO(PSH_OPENING, DROP | OPEN),
        [PSH_READY] = STAY, [PSH_UPGRADED] = STAY, [PSH_GREETED] = STAY,
        [PSH_LOST] = GO(PSH_WAITING, DROP),
        [PSH_QUIT] = STAY, [PSH_STOP] = STAY,
        [PSH_ENDED] = GO(PSH_WAITING, DROP),
        [PSH_TIMER] = GO(PSH_WAITING, DROP),
    },
    [PSH_LEAVING] = {
        [PSH_UP] = GO(PSH_OPENING, DROP | OPEN),
        [PSH_DOWN] = STAY, [PSH_NOW] = STAY, [PSH_READY] = STAY, [PSH_UPGRADED] = STAY,
        [PSH_GREETED] = STAY,
        [PSH_LOST] = GO(PSH_IDLE, DROP),
        [PSH_QUIT] = STAY, [PSH_STOP] = STAY,
        [PSH_ENDED] = GO(PSH_IDLE, DROP),
        [PSH_TIMER] = GO(PSH_IDLE, DROP),
    },
    [PSH_WAITING] = {
        [PSH_UP] = STAY,
        [PSH_DOWN] = GO(PSH_IDLE, 0),
        [PSH_NOW] = GO(PSH_OPENING, OPEN),
        [PSH_READY] = STAY, [PSH_UPGRADED] = STAY, [PSH_GREETED] = STAY, [PSH_LOST] = STAY,
        [PSH_QUIT] = STAY, [PSH_STOP] = STAY, [PSH_ENDED] = STAY,
        [PSH_TIMER] = GO(PSH_OPENING, OPEN),
    },
};

static void every_phase_and_signal_does_what_the_table_says(void **state)
{
    (void)state;
    for (int phase = 0; phase < PSH_PHASES; phase++) {
        for (int signal = 0; signal < PSH_SIGNALS; signal++) {
            const struct expected *want = &moves[phase][signal];
            struct psh_move got = psh_client_move((enum psh_phase)phase, (enum psh_signal)signal);
            int to = want->written > 0 ? want->to : phase;
            if (!want->written || (int)got.phase != to || got.actions != want->actions)
                fail_msg("phase %d, signal %d: phase %d, actions %u", phase, signal,
                         (int)got.phase, got.actions);
        }
    }
}

static bool has_stream(int phase)
{
    return phase != PSH_IDLE && phase != PSH_WAITING;
}

/* What one move may never do, whatever the table says. */
static const char *wrong_with(int from, int signal)
{
    struct psh_move move = psh_client_move((enum psh_phase)from, (enum psh_signal)signal);
    int to = (int)move.phase;
    unsigned actions = move.actions;
    bool stays = to == from;
    bool opens = (actions & PSH_DO_OPEN) != 0, drops = (actions & PSH_DO_DROP) != 0;
    if (opens != (to == PSH_OPENING && !stays)) return "OPEN, and nothing else, leads to OPENING";
    if (has_stream(from) && !has_stream(to) && !drops) return "a stream is left behind";
    if (has_stream(from) && opens && !drops) return "a stream is opened over another";
    if (!has_stream(from) && drops) return "there is no stream to drop";
    if (drops && has_stream(to) && !opens) return "the phase needs the stream that was dropped";
    if (!has_stream(from) && has_stream(to) && !opens) return "a stream from nowhere";
    if ((actions & PSH_DO_RETRY) && (stays || (to != PSH_WAITING && to != PSH_CLOSING)))
        return "RETRY leads to WAITING or CLOSING only";
    if ((to == PSH_WAITING || to == PSH_CLOSING) && !stays && from != PSH_CLOSING &&
        !(actions & PSH_DO_RETRY))
        return "a wait without an end";
    if ((from == PSH_ONLINE && !stays) != ((actions & PSH_DO_RESET) != 0))
        return "leaving ONLINE, and nothing else, resets the channels";
    if (((actions & PSH_DO_WELCOME) != 0) != (to == PSH_ONLINE && !stays))
        return "WELCOME goes with ONLINE";
    if (((actions & PSH_DO_UPGRADE) != 0) != (to == PSH_UPGRADING && !stays))
        return "UPGRADE goes with UPGRADING";
    if ((actions & PSH_DO_CHECK) && (from != PSH_ONLINE || !stays))
        return "only a live connection is checked";
    if ((actions & PSH_DO_BYE) && (from < PSH_GREETING || from > PSH_ONLINE))
        return "no WebSocket to say goodbye on";
    if ((to == PSH_CLOSING || to == PSH_LEAVING) && from <= PSH_ONLINE &&
        !(actions & PSH_DO_BYE))
        return "it waits for the answer to a close frame that was not sent";
    if ((actions & PSH_DO_BYE) && to != PSH_CLOSING && to != PSH_LEAVING)
        return "a goodbye and no wait for its answer";
    if (stays && actions && !(actions & PSH_DO_CHECK)) return "a move to itself does something";
    return NULL;
}

static void no_move_breaks_a_rule(void **state)
{
    (void)state;
    for (int phase = 0; phase < PSH_PHASES; phase++) {
        for (int signal = 0; signal < PSH_SIGNALS; signal++) {
            const char *wrong = wrong_with(phase, signal);
            if (wrong) fail_msg("phase %d, signal %d: %s", phase, signal, wrong);
        }
    }
}

/* The phases that can follow `from`, as bits, by any signals but those in `without`. */
static unsigned reachable(unsigned from, unsigned without)
{
    for (unsigned before = 0; before != from;) {
        before = from;
        for (unsigned phase = 0; phase < PSH_PHASES; phase++) {
            if (!(from >> phase & 1)) continue;
            for (unsigned signal = 0; signal < PSH_SIGNALS; signal++)
                if (!(without >> signal & 1))
                    from |= 1u << psh_client_move((enum psh_phase)phase,
                                                  (enum psh_signal)signal).phase;
        }
    }
    return from;
}

static void no_phase_is_a_trap(void **state)
{
    (void)state;
    assert_int_equal(reachable(1u << PSH_IDLE, 0), (1u << PSH_PHASES) - 1);
    for (int phase = 0; phase < PSH_PHASES; phase++) {
        enum psh_phase at = psh_client_move((enum psh_phase)phase, PSH_DOWN).phase;
        assert_int_equal(psh_client_move(at, PSH_UP).phase, PSH_OPENING);
        /* and from each phase all others can be reached */
        assert_int_equal(reachable(1u << phase, 0), (1u << PSH_PHASES) - 1);
    }
}

static void after_down_nothing_is_attempted_without_up(void **state)
{
    (void)state;
    for (int phase = 0; phase < PSH_PHASES; phase++) {
        enum psh_phase at = psh_client_move((enum psh_phase)phase, PSH_DOWN).phase;
        unsigned may = reachable(1u << at, 1u << PSH_UP);
        assert_int_equal(may & ~(1u << PSH_IDLE | 1u << PSH_LEAVING), 0);
    }
}

static void time_ends_every_goodbye_and_every_wait(void **state)
{
    (void)state;
    assert_int_equal(psh_client_move(PSH_CLOSING, PSH_TIMER).phase, PSH_WAITING);
    assert_int_equal(psh_client_move(PSH_LEAVING, PSH_TIMER).phase, PSH_IDLE);
    assert_int_equal(psh_client_move(PSH_WAITING, PSH_TIMER).phase, PSH_OPENING);
    /* a stream that is lost is never kept, by whatever name its end comes */
    for (int phase = PSH_OPENING; phase <= PSH_LEAVING; phase++)
        assert_false(has_stream((int)psh_client_move((enum psh_phase)phase, PSH_LOST).phase));
}

/* ---- a channel's state machine -------------------------------------------------------------- */

#define QUEUE PSH_SUB_QUEUE
#define WAIT PSH_SUB_WAIT
#define REMOVE PSH_SUB_REMOVE
#define TELL PSH_SUB_TELL

static const struct expected sub_moves[PSH_SUBS][PSH_SUB_SIGNALS] = {
    [PSH_SUB_IDLE] = {
        [PSH_SUB_ASK] = GO(PSH_SUB_ASKING, WAIT),
        [PSH_SUB_GRANT] = STAY, [PSH_SUB_DENY] = STAY, [PSH_SUB_DEFER] = STAY,
        [PSH_SUB_WAKE] = STAY,
        [PSH_SUB_SEND] = GO(PSH_SUB_PENDING, WAIT),
        [PSH_SUB_ACK] = STAY, [PSH_SUB_NAK] = STAY, [PSH_SUB_LATE] = STAY,
        [PSH_SUB_DROP] = GO(PSH_SUB_GONE, REMOVE), /* the server never heard of it */
        [PSH_SUB_AGAIN] = STAY,
        [PSH_SUB_LOST] = GO(PSH_SUB_IDLE, QUEUE), /* behind those before it in the order */
    },
    [PSH_SUB_ASKING] = {
        [PSH_SUB_ASK] = STAY,
        [PSH_SUB_GRANT] = GO(PSH_SUB_IDLE, QUEUE),
        [PSH_SUB_DENY] = GO(PSH_SUB_REFUSED, TELL),
        [PSH_SUB_DEFER] = GO(PSH_SUB_RETRYING, QUEUE),
        [PSH_SUB_WAKE] = STAY, [PSH_SUB_SEND] = STAY,
        [PSH_SUB_ACK] = STAY, [PSH_SUB_NAK] = STAY, [PSH_SUB_LATE] = STAY,
        [PSH_SUB_DROP] = GO(PSH_SUB_GONE, REMOVE), /* the server never heard of it */
        [PSH_SUB_AGAIN] = STAY,
        [PSH_SUB_LOST] = GO(PSH_SUB_IDLE, QUEUE),
    },
    [PSH_SUB_RETRYING] = {
        [PSH_SUB_ASK] = STAY, [PSH_SUB_GRANT] = STAY, [PSH_SUB_DENY] = STAY,
        [PSH_SUB_DEFER] = STAY,
        [PSH_SUB_WAKE] = GO(PSH_SUB_IDLE, QUEUE),
        [PSH_SUB_SEND] = STAY, [PSH_SUB_ACK] = STAY, [PSH_SUB_NAK] = STAY,
        [PSH_SUB_LATE] = STAY,
        [PSH_SUB_DROP] = GO(PSH_SUB_GONE, REMOVE),
        [PSH_SUB_AGAIN] = STAY,
        [PSH_SUB_LOST] = GO(PSH_SUB_IDLE, QUEUE),
    },
    [PSH_SUB_PENDING] = {
        [PSH_SUB_ASK] = STAY, [PSH_SUB_GRANT] = STAY, [PSH_SUB_DENY] = STAY,
        [PSH_SUB_DEFER] = STAY, [PSH_SUB_WAKE] = STAY,
        [PSH_SUB_SEND] = STAY,
        [PSH_SUB_ACK] = GO(PSH_SUB_LIVE, TELL),
        [PSH_SUB_NAK] = GO(PSH_SUB_REFUSED, TELL),
        [PSH_SUB_LATE] = GO(PSH_SUB_UNANSWERED, TELL),
        [PSH_SUB_DROP] = GO(PSH_SUB_CANCELLED, WAIT),
        [PSH_SUB_AGAIN] = STAY,
        [PSH_SUB_LOST] = GO(PSH_SUB_IDLE, QUEUE),
    },
    [PSH_SUB_LIVE] = {
        [PSH_SUB_ASK] = STAY, [PSH_SUB_GRANT] = STAY, [PSH_SUB_DENY] = STAY,
        [PSH_SUB_DEFER] = STAY, [PSH_SUB_WAKE] = STAY,
        [PSH_SUB_SEND] = STAY,
        [PSH_SUB_ACK] = STAY, /* told once is enough */
        [PSH_SUB_NAK] = GO(PSH_SUB_REFUSED, TELL),
        [PSH_SUB_LATE] = STAY,
        [PSH_SUB_DROP] = GO(PSH_SUB_LEAVING, QUEUE),
        [PSH_SUB_AGAIN] = STAY,
        [PSH_SUB_LOST] = GO(PSH_SUB_IDLE, QUEUE),
    },
    [PSH_SUB_REFUSED] = {
        [PSH_SUB_ASK] = STAY, [PSH_SUB_GRANT] = STAY, [PSH_SUB_DENY] = STAY,
        [PSH_SUB_DEFER] = STAY, [PSH_SUB_WAKE] = STAY,
        [PSH_SUB_SEND] = STAY, [PSH_SUB_ACK] = STAY, [PSH_SUB_NAK] = STAY,
        [PSH_SUB_LATE] = STAY,
        [PSH_SUB_DROP] = GO(PSH_SUB_GONE, REMOVE), /* nothing there to unsubscribe */
        [PSH_SUB_AGAIN] = GO(PSH_SUB_IDLE, QUEUE), /* somebody asks once more */
        [PSH_SUB_LOST] = GO(PSH_SUB_IDLE, QUEUE),
    },
    [PSH_SUB_UNANSWERED] = {
        [PSH_SUB_ASK] = STAY, [PSH_SUB_GRANT] = STAY, [PSH_SUB_DENY] = STAY,
        [PSH_SUB_DEFER] = STAY, [PSH_SUB_WAKE] = STAY,
        [PSH_SUB_SEND] = STAY,
        [PSH_SUB_ACK] = GO(PSH_SUB_LIVE, TELL),
        [PSH_SUB_NAK] = GO(PSH_SUB_REFUSED, 0), /* they have been told that it failed */
        [PSH_SUB_LATE] = STAY,
        [PSH_SUB_DROP] = GO(PSH_SUB_LEAVING, QUEUE),
        [PSH_SUB_AGAIN] = STAY,
        [PSH_SUB_LOST] = GO(PSH_SUB_IDLE, QUEUE),
    },
    [PSH_SUB_CANCELLED] = {
        [PSH_SUB_ASK] = STAY, [PSH_SUB_GRANT] = STAY, [PSH_SUB_DENY] = STAY,
        [PSH_SUB_DEFER] = STAY, [PSH_SUB_WAKE] = STAY,
        [PSH_SUB_SEND] = STAY,
        [PSH_SUB_ACK] = GO(PSH_SUB_LEAVING, QUEUE),
        [PSH_SUB_NAK] = GO(PSH_SUB_GONE, REMOVE),
        [PSH_SUB_LATE] = GO(PSH_SUB_LEAVING, QUEUE),
        [PSH_SUB_DROP] = STAY,
        [PSH_SUB_AGAIN] = GO(PSH_SUB_PENDING, WAIT),
        [PSH_SUB_LOST] = GO(PSH_SUB_GONE, REMOVE), /* cancelled stays cancelled */
    },
    [PSH_SUB_LEAVING] = {
        [PSH_SUB_ASK] = STAY, [PSH_SUB_GRANT] = STAY, [PSH_SUB_DENY] = STAY,
        [PSH_SUB_DEFER] = STAY, [PSH_SUB_WAKE] = STAY,
        [PSH_SUB_SEND] = GO(PSH_SUB_GONE, REMOVE),
        [PSH_SUB_ACK] = STAY, [PSH_SUB_NAK] = STAY, [PSH_SUB_LATE] = STAY,
        [PSH_SUB_DROP] = STAY, [PSH_SUB_AGAIN] = STAY,
        [PSH_SUB_LOST] = GO(PSH_SUB_GONE, REMOVE),
    },
    [PSH_SUB_GONE] = {
        [PSH_SUB_ASK] = STAY, [PSH_SUB_GRANT] = STAY, [PSH_SUB_DENY] = STAY,
        [PSH_SUB_DEFER] = STAY, [PSH_SUB_WAKE] = STAY,
        [PSH_SUB_SEND] = STAY, [PSH_SUB_ACK] = STAY, [PSH_SUB_NAK] = STAY,
        [PSH_SUB_LATE] = STAY, [PSH_SUB_DROP] = STAY, [PSH_SUB_AGAIN] = STAY,
        [PSH_SUB_LOST] = STAY,
    },
};

static void every_channel_state_and_signal_does_what_the_table_says(void **state)
{
    (void)state;
    for (int from = 0; from < PSH_SUBS; from++) {
        for (int signal = 0; signal < PSH_SUB_SIGNALS; signal++) {
            const struct expected *want = &sub_moves[from][signal];
            struct psh_sub_move got =
                psh_client_sub_move((enum psh_sub)from, (enum psh_sub_signal)signal);
            int to = want->written > 0 ? want->to : from;
            if (!want->written || (int)got.state != to || got.actions != want->actions)
                fail_msg("state %d, signal %d: state %d, actions %u", from, signal,
                         (int)got.state, got.actions);
        }
    }
}

static enum psh_sub after(int from, int signal)
{
    return psh_client_sub_move((enum psh_sub)from, (enum psh_sub_signal)signal).state;
}

/* Somebody has a reference to it. */
static bool held(int from)
{
    return from <= PSH_SUB_UNANSWERED;
}

static const char *wrong_with_sub(int from, int signal)
{
    struct psh_sub_move move =
        psh_client_sub_move((enum psh_sub)from, (enum psh_sub_signal)signal);
    int to = (int)move.state;
    bool still = to == from && !move.actions;
    bool queued = to == PSH_SUB_IDLE || to == PSH_SUB_RETRYING || to == PSH_SUB_LEAVING;
    bool waits = to == PSH_SUB_ASKING || to == PSH_SUB_PENDING || to == PSH_SUB_CANCELLED;
    if (still) return from != PSH_SUB_GONE && signal == PSH_SUB_LOST ? "deaf to LOST" : NULL;
    if (from == PSH_SUB_GONE) return "it comes back from the dead";
    if (queued != ((move.actions & PSH_SUB_QUEUE) != 0)) return "IDLE and LEAVING are queued";
    if (waits != ((move.actions & PSH_SUB_WAIT) != 0)) return "who waits has a deadline";
    if ((to == PSH_SUB_GONE) != ((move.actions & PSH_SUB_REMOVE) != 0))
        return "GONE goes with REMOVE";
    if ((move.actions & PSH_SUB_TELL) && !held(from)) return "nobody is there to be told";
    if ((to == PSH_SUB_LIVE || to == PSH_SUB_UNANSWERED) && !(move.actions & PSH_SUB_TELL))
        return "nobody is told";
    if ((move.actions & PSH_SUB_TELL) && to != PSH_SUB_LIVE && to != PSH_SUB_REFUSED &&
        to != PSH_SUB_UNANSWERED)
        return "there is nothing to tell";
    /* the deadline of an authorization is a "later", or a no */
    if (waits && after(to, to == PSH_SUB_ASKING ? PSH_SUB_DENY : PSH_SUB_LATE) == (enum psh_sub)to)
        return "it can wait for ever";
    if (queued && after(to, to == PSH_SUB_RETRYING ? PSH_SUB_WAKE : PSH_SUB_SEND) == (enum psh_sub)to)
        return "it blocks the queue";
    if (held(from) && !held(to) && signal != PSH_SUB_DROP) return "a reference was taken away";
    if (held(from) && held(to) && signal == PSH_SUB_DROP) return "the last reference stays";
    if (!held(from) && held(to) && signal != PSH_SUB_AGAIN) return "a reference from nowhere";
    return NULL;
}

static void no_channel_move_breaks_a_rule(void **state)
{
    (void)state;
    for (int from = 0; from < PSH_SUBS; from++) {
        for (int signal = 0; signal < PSH_SUB_SIGNALS; signal++) {
            const char *wrong = wrong_with_sub(from, signal);
            if (wrong) fail_msg("state %d, signal %d: %s", from, signal, wrong);
        }
        /* whatever happened, a lost connection leaves either a wish or nothing */
        assert_int_equal(after(from, PSH_SUB_LOST), held(from) ? PSH_SUB_IDLE : PSH_SUB_GONE);
        /* and who gives it back and loses the connection is rid of it */
        assert_int_equal(after((int)after(from, PSH_SUB_DROP), PSH_SUB_LOST), PSH_SUB_GONE);
    }
}

/* What the server believes, frame by frame: it must never be subscribed to what nobody holds. */
static void the_server_never_keeps_what_nobody_holds(void **state)
{
    (void)state;
    enum { SIGNALS = PSH_SUB_SIGNALS, STEPS = 6 };
    for (unsigned path = 0; path < SIGNALS * SIGNALS * SIGNALS * SIGNALS * SIGNALS * SIGNALS; path++) {
        int at = PSH_SUB_IDLE;
        bool server = false; /* has a subscription, or will have when it reads our frame */
        unsigned rest = path;
        for (int step = 0; step < STEPS; step++, rest /= SIGNALS) {
            int signal = (int)(rest % SIGNALS);
            bool on_wire = signal == PSH_SUB_SEND;
            if (on_wire && at == PSH_SUB_IDLE) server = true;
            if (on_wire && at == PSH_SUB_LEAVING) server = false;
            if (signal == PSH_SUB_LOST) server = false;
            if (signal == PSH_SUB_NAK && at >= PSH_SUB_PENDING && at != PSH_SUB_LEAVING)
                server = false;
            at = (int)after(at, signal);
            if (at == PSH_SUB_GONE && server) fail_msg("path %u", path);
            if (at == PSH_SUB_LIVE && !server) fail_msg("path %u: live without a server", path);
        }
    }
}

/* ---- the wait before a retry ---------------------------------------------------------------- */

struct dice {
    uint32_t value;
    bool works;
    int calls;
};

static bool throw_dice(void *buf, size_t len, void *user_data)
{
    struct dice *dice = (struct dice *)user_data;
    dice->calls++;
    if (!dice->works) return false;
    assert_int_equal(len, sizeof dice->value);
    memcpy(buf, &dice->value, sizeof dice->value);
    return true;
}

static void use_dice(pusher_client *client, struct dice *dice, uint32_t base, uint32_t cap)
{
    memset(client, 0, sizeof *client);
    memset(dice, 0, sizeof *dice);
    dice->works = true;
    client->env.random.fill_fn = throw_dice;
    client->env.random.user_data = dice;
    client->reconnect_base_ms = base;
    client->reconnect_cap_ms = cap;
    client->failures = 1;
}

static uint32_t delay_of(pusher_client *client, struct dice *dice, uint32_t failures,
                         uint32_t value)
{
    client->failures = failures;
    dice->value = value;
    return psh_client_delay(client);
}

static void the_wait_doubles_up_to_the_cap(void **state)
{
    (void)state;
    static const struct { uint32_t base, cap; } limits[] = {
        {1000, 30000}, {1, 1}, {2, UINT32_MAX}, {1000, 1}, {UINT32_MAX, UINT32_MAX}, {3, 100},
    };
    pusher_client client;
    struct dice dice;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        use_dice(&client, &dice, limits[i].base, limits[i].cap);
        uint64_t bound = limits[i].base;
        for (uint32_t failures = 1; failures <= 80; failures++) {
            if (bound > limits[i].cap) bound = limits[i].cap;
            assert_int_equal(delay_of(&client, &dice, failures, 0), 0);
            assert_int_equal(delay_of(&client, &dice, failures, UINT32_MAX), bound);
            uint32_t half = delay_of(&client, &dice, failures, 0x80000000u);
            assert_int_equal(half, (bound + 1) / 2);
            bound *= 2;
        }
        assert_int_equal(delay_of(&client, &dice, UINT32_MAX, UINT32_MAX), limits[i].cap);
    }
}

static void the_wait_is_spread_evenly(void **state)
{
    (void)state;
    enum { THROWS = 100000, BINS = 10 };
    pusher_client client;
    struct dice dice;
    uint64_t seed = 7;
    int bins[BINS] = {0};
    use_dice(&client, &dice, 1000, 30000);
    for (int i = 0; i < THROWS; i++) {
        uint32_t delay = delay_of(&client, &dice, 1, (uint32_t)(fake_next_random(&seed) >> 32));
        assert_in_range(delay, 0, 1000);
        bins[delay < 1000 ? delay / 100 : BINS - 1]++;
    }
    for (int i = 0; i < BINS; i++) assert_in_range(bins[i], THROWS / 11, THROWS / 9);
}

static void without_randomness_it_waits_longest(void **state)
{
    (void)state;
    pusher_client client;
    struct dice dice;
    use_dice(&client, &dice, 1000, 30000);
    dice.works = false;
    assert_int_equal(delay_of(&client, &dice, 1, 0), 1000);
    assert_int_equal(delay_of(&client, &dice, 3, 0), 4000);
    assert_int_equal(dice.calls, 2);
}

static void later_means_a_second_at_least(void **state)
{
    (void)state;
    pusher_client client;
    struct dice dice;
    use_dice(&client, &dice, 4000, 30000);
    client.urge = PSH_URGE_LATER;
    assert_int_equal(delay_of(&client, &dice, 1, 0), 1000);
    assert_int_equal(delay_of(&client, &dice, 1, 0x40000000u), 1000);  /* 1000.25 */
    assert_int_equal(delay_of(&client, &dice, 1, 0x3F000000u), 1000);  /* 984 */
    assert_int_equal(delay_of(&client, &dice, 1, UINT32_MAX), 4000);
    use_dice(&client, &dice, 10, 20);
    client.urge = PSH_URGE_LATER;
    assert_int_equal(delay_of(&client, &dice, 9, UINT32_MAX), 1000);
    client.urge = PSH_URGE_SOON;
    assert_int_equal(delay_of(&client, &dice, 9, UINT32_MAX), 20);
}

static void now_means_at_once_but_once_only(void **state)
{
    (void)state;
    pusher_client client;
    struct dice dice;
    use_dice(&client, &dice, 1000, 30000);
    client.urge = PSH_URGE_NOW;
    assert_int_equal(delay_of(&client, &dice, 1, UINT32_MAX), 0);
    assert_int_equal(dice.calls, 0);
    assert_true(client.instant_used);
    assert_int_equal(delay_of(&client, &dice, 1, UINT32_MAX), 1000);
    assert_int_equal(delay_of(&client, &dice, 2, UINT32_MAX), 2000);
    client.instant_used = false;
    assert_int_equal(delay_of(&client, &dice, 3, UINT32_MAX), 0);
}

static void the_code_says_how_soon(void **state)
{
    (void)state;
    for (uint32_t code = 0; code <= 70000; code++) {
        enum psh_urge want = PSH_URGE_SOON;
        if (code / 100 == 40) want = PSH_URGE_STOP;
        if (code / 100 == 41) want = PSH_URGE_LATER;
        if (code / 100 == 42) want = PSH_URGE_NOW;
        assert_int_equal(psh_client_urge(code), want);
    }
}

/* ---- time ----------------------------------------------------------------------------------- */

static void idle_client(pusher_client *client)
{
    memset(client, 0, sizeof *client);
    client->unavailable_at = client->deadline = client->retry_at = PSH_NEVER;
    client->pong_by = client->pinged_at = PSH_NEVER;
}

static void the_first_call_sets_the_clock(void **state)
{
    (void)state;
    static const uint64_t starts[] = {0, 1, 5000, UINT32_MAX, UINT64_MAX / 2, UINT64_MAX};
    pusher_client client;
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        idle_client(&client);
        client.phase = PSH_WAITING;
        client.deadline = 1; /* long past: no jump all the same */
        psh_client_clock(&client, starts[i]);
        assert_true(client.started);
        assert_int_equal(client.now, starts[i]);
        assert_int_equal(client.offset, 0);
        assert_false(client.now_wanted);
    }
}

static void a_clock_that_runs_back_stands_still(void **state)
{
    (void)state;
    static const uint64_t back[] = {1, 999, 100000, 1000000};
    pusher_client client;
    for (size_t i = 0; i < sizeof back / sizeof *back; i++) {
        idle_client(&client);
        psh_client_clock(&client, 1000000);
        psh_client_clock(&client, 1000000 - back[i]);
        assert_int_equal(client.now, 1000000);
        assert_false(client.now_wanted);
        psh_client_clock(&client, 1000000 - back[i] + 7); /* from there it goes on */
        assert_int_equal(client.now, 1000007);
        psh_client_clock(&client, 0);
        assert_int_equal(client.now, 1000007);
        psh_client_clock(&client, 20);
        assert_int_equal(client.now, 1000027);
    }
}

static void a_step_forward_is_taken_as_it_is(void **state)
{
    (void)state;
    pusher_client client;
    idle_client(&client);
    psh_client_clock(&client, 1000);
    psh_client_clock(&client, 1000);
    assert_int_equal(client.now, 1000);
    psh_client_clock(&client, 1016);
    assert_int_equal(client.now, 1016);
    /* nothing is due: it may sleep as long as it likes */
    psh_client_clock(&client, UINT64_MAX / 2);
    assert_int_equal(client.now, UINT64_MAX / 2);
    assert_false(client.now_wanted);
    psh_client_clock(&client, UINT64_MAX - 1); /* the furthest that is not back */
    assert_int_equal(client.now, UINT64_MAX - 1);
    idle_client(&client);
    psh_client_clock(&client, 0);
    psh_client_clock(&client, UINT64_MAX / 2 + 1);
    assert_int_equal(client.now, 0);
}

/* A poll over PSH_JUMP_MS too late did not happen; one less is only late. */
static void a_jump_is_a_poll_much_too_late(void **state)
{
    (void)state;
    pusher_client client;
    for (uint64_t late = PSH_JUMP_MS - 1; late <= PSH_JUMP_MS + 1; late++) {
        idle_client(&client);
        psh_client_clock(&client, 1000);
        client.phase = PSH_WAITING;
        client.deadline = 3000;
        psh_client_clock(&client, 3000 + late);
        bool jump = late > PSH_JUMP_MS;
        assert_int_equal(client.now, jump ? 1000 : 3000 + late);
        assert_int_equal(client.now_wanted, jump);
        /* what was due in two seconds is so still, on the caller's clock too */
        assert_int_equal(client.deadline - client.offset, jump ? 3000 + late + 2000 : 3000);
        client.deadline = 100000;
        psh_client_clock(&client, 3000 + late + 50);
        assert_int_equal(client.now, jump ? 1050 : 3000 + late + 50);
    }
}

/* A program that polls once a minute must see that something is dead in the second one at last. */
static void the_second_jump_in_a_row_is_time(void **state)
{
    (void)state;
    pusher_client client;
    idle_client(&client);
    client.phase = PSH_WAITING;
    client.deadline = 3000;
    psh_client_clock(&client, 1000);
    psh_client_clock(&client, 61000);
    assert_int_equal(client.now, 1000);
    assert_true(client.now_wanted);
    client.now_wanted = false;
    psh_client_clock(&client, 121000);
    assert_int_equal(client.now, 3000); /* due, and not a moment later */
    assert_false(client.now_wanted);
    client.deadline = 5000;
    psh_client_clock(&client, 122000); /* a poll in time ends the row */
    assert_int_equal(client.now, 4000);
    psh_client_clock(&client, 182000);
    assert_int_equal(client.now, 4000);
    assert_true(client.now_wanted);
    /* what is overdue already does not turn time back */
    client.deadline = 2000;
    psh_client_clock(&client, 242000);
    assert_int_equal(client.now, 4000);
}

static void the_callers_clock_may_wrap(void **state)
{
    (void)state;
    pusher_client client;
    idle_client(&client);
    psh_client_clock(&client, UINT64_MAX - 10);
    assert_int_equal(client.now, UINT64_MAX - 10);
    psh_client_clock(&client, UINT64_MAX - 20); /* back */
    assert_int_equal(client.now, UINT64_MAX - 10);
    psh_client_clock(&client, UINT64_MAX - 19);
    assert_int_equal(client.now, UINT64_MAX - 9);
    psh_client_clock(&client, 5); /* 25 further on, over the end */
    assert_int_equal(client.now, 15);
    psh_client_clock(&client, 4);
    assert_int_equal(client.now, 15);
    psh_client_clock(&client, 6);
    assert_int_equal(client.now, 17);
}

static void the_earliest_deadline_is_due(void **state)
{
    (void)state;
    pusher_client client;
    idle_client(&client);
    client.deadline = 7;
    assert_int_equal(psh_client_due(&client), PSH_NEVER); /* the deadline is no idle client's */
    for (int phase = PSH_OPENING; phase < PSH_PHASES; phase++) {
        if (phase == PSH_ONLINE) continue;
        client.phase = (enum psh_phase)phase;
        client.unavailable_at = PSH_NEVER;
        assert_int_equal(psh_client_due(&client), 7);
        client.unavailable_at = 6;
        assert_int_equal(psh_client_due(&client), 6);
    }
    client.phase = PSH_ONLINE;
    client.unavailable_at = PSH_NEVER;
    client.activity_ms = 100;
    client.last_received = 1000;
    client.last_sent = 2000;
    assert_int_equal(psh_client_due(&client), 1100); /* silence either way is silence */
    client.last_sent = 900;
    assert_int_equal(psh_client_due(&client), 1000);
    client.pong_by = 5000; /* asked already: no second ping */
    assert_int_equal(psh_client_due(&client), 5000);
}

/* A channel keeps 32 bits of its deadline. */
static void deadlines_pass_over_32_bits(void **state)
{
    (void)state;
    static const uint64_t nows[] = {
        0, 1000, UINT64_C(0xFFFFFFFF) - 9999, UINT64_C(0xFFFFFFFF) - 10000, UINT64_C(0xFFFFFFFF),
        UINT64_C(0x100000000), UINT64_C(0x7FFFFFFF), UINT64_C(0x80000000), UINT64_C(0x1FFFFFFFF),
        UINT64_C(0xFFFFFFFF00000000) - 5,
    };
    static const uint32_t timeouts[] = {1, 10000, INT32_MAX};
    for (size_t i = 0; i < sizeof nows / sizeof *nows; i++) {
        for (size_t k = 0; k < sizeof timeouts / sizeof *timeouts; k++) {
            fake f;
            fake_start(&f, NULL);
            pusher_client *client = f.client;
            assert_int_equal(psh_client_answer_at(client, PSH_WORK_WAIT), PSH_NEVER);
            pusher_channel one = pusher_subscribe(client, "one");
            assert_int_equal(one.id, 1);
            assert_int_equal(psh_client_answer_at(client, PSH_WORK_WAIT), PSH_NEVER); /* queued, not asked */
            client->now = nows[i];
            client->wait_ms[PSH_WORK_WAIT] = timeouts[k];
            (void)psh_client_sub(client, 0, PSH_SUB_SEND);
            const uint64_t due = nows[i] + timeouts[k];
            assert_int_equal(psh_client_answer_at(client, PSH_WORK_WAIT), due);
            client->now = due - 1;
            assert_int_equal(psh_client_answer_at(client, PSH_WORK_WAIT), due);
            client->now = due;
            assert_int_equal(psh_client_answer_at(client, PSH_WORK_WAIT), due);
            client->now = due + 1; /* overdue is due now */
            assert_int_equal(psh_client_answer_at(client, PSH_WORK_WAIT), client->now);
            client->now = due + INT32_MAX;
            assert_int_equal(psh_client_answer_at(client, PSH_WORK_WAIT), client->now);
            fake_end(&f);
        }
    }
}

/* ---- the lists ------------------------------------------------------------------------------ */

static void expect_work(const pusher_client *client, int work, const char *ids)
{
    char found[64] = "";
    size_t len = 0;
    uint32_t before = 0;
    for (uint32_t id = client->work[work].first; id; ) {
        const struct psh_channel *channel = psh_client_at(client, id - 1);
        assert_int_equal(channel->link[PSH_BY_WORK].before, before);
        found[len++] = (char)('0' + id);
        before = id;
        id = channel->link[PSH_BY_WORK].next;
    }
    found[len] = '\0';
    assert_int_equal(client->work[work].last, before);
    assert_string_equal(found, ids);
}

static void a_lost_connection_queues_in_the_order_of_subscription(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};
    fake f;
    fake_start(&f, NULL);
    pusher_client *client = f.client;
    pusher_channel channels[6];
    for (int i = 0; i < 6; i++) channels[i] = pusher_subscribe(client, names[i]);
    expect_work(client, PSH_WORK_QUEUE, "123456");
    for (uint32_t i = 0; i < 5; i++) (void)psh_client_sub(client, i, PSH_SUB_SEND);
    expect_work(client, PSH_WORK_QUEUE, "6");
    expect_work(client, PSH_WORK_WAIT, "12345");
    assert_true(psh_client_sub(client, 3, PSH_SUB_ACK));
    assert_true(psh_client_sub(client, 0, PSH_SUB_NAK));
    assert_int_equal(pusher_unsubscribe(client, channels[1]), PUSHER_OK); /* cancelled */
    assert_int_equal(pusher_unsubscribe(client, channels[3]), PUSHER_OK); /* leaving */
    expect_work(client, PSH_WORK_QUEUE, "64");
    expect_work(client, PSH_WORK_WAIT, "352");
    psh_client_reset_channels(client);
    expect_work(client, PSH_WORK_QUEUE, "1356");
    expect_work(client, PSH_WORK_WAIT, "");
    expect_work(client, PSH_WORK_FREE, "");
    assert_int_equal(pusher_find_channel(client, "b").id, 0);
    assert_int_equal(pusher_find_channel(client, "d").id, 0);
    fake_end(&f);
}

static void references_do_not_wrap(void **state)
{
    (void)state;
    fake f;
    fake_start(&f, NULL);
    pusher_channel channel = pusher_subscribe(f.client, "chat");
    psh_client_at(f.client, 0)->entry.references = UINT32_MAX - 1;
    assert_int_equal(pusher_subscribe(f.client, "chat").id, channel.id);
    assert_int_equal(pusher_subscribe(f.client, "chat").id, 0);
    assert_int_equal(pusher_last_error(f.client)->code, PUSHER_ERR_MEMORY);
    assert_int_equal(pusher_channel_references(f.client, channel), UINT32_MAX);
    psh_client_at(f.client, 0)->entry.references = 1;
    assert_int_equal(pusher_unsubscribe(f.client, channel), PUSHER_OK);
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_do_not_wrap),
        cmocka_unit_test(every_phase_and_signal_does_what_the_table_says),
        cmocka_unit_test(no_move_breaks_a_rule),
        cmocka_unit_test(no_phase_is_a_trap),
        cmocka_unit_test(after_down_nothing_is_attempted_without_up),
        cmocka_unit_test(time_ends_every_goodbye_and_every_wait),
        cmocka_unit_test(every_channel_state_and_signal_does_what_the_table_says),
        cmocka_unit_test(no_channel_move_breaks_a_rule),
        cmocka_unit_test(the_server_never_keeps_what_nobody_holds),
        cmocka_unit_test(the_wait_doubles_up_to_the_cap),
        cmocka_unit_test(the_wait_is_spread_evenly),
        cmocka_unit_test(without_randomness_it_waits_longest),
        cmocka_unit_test(later_means_a_second_at_least),
        cmocka_unit_test(now_means_at_once_but_once_only),
        cmocka_unit_test(the_code_says_how_soon),
        cmocka_unit_test(the_first_call_sets_the_clock),
        cmocka_unit_test(a_clock_that_runs_back_stands_still),
        cmocka_unit_test(a_step_forward_is_taken_as_it_is),
        cmocka_unit_test(a_jump_is_a_poll_much_too_late),
        cmocka_unit_test(the_second_jump_in_a_row_is_time),
        cmocka_unit_test(the_callers_clock_may_wrap),
        cmocka_unit_test(the_earliest_deadline_is_due),
        cmocka_unit_test(deadlines_pass_over_32_bits),
        cmocka_unit_test(a_lost_connection_queues_in_the_order_of_subscription),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
