/*
 * control.h - the server's functions as lines of text, for programs in other languages and for
 * hands: pusher-server --control. A line is a command and its words, with one space between; in
 * each word %20 is a space, %0A a new line, %25 a percent sign. The last word may have spaces as
 * they are. Each line is answered by one: "ok", "ok VALUE" or "no REASON".
 *
 *     publish CHANNEL EVENT DATA       seal CHANNEL EVENT DATA      seal-with KEY CHANNEL EVENT DATA
 *     raw CHANNEL JSON                 a message as it is; CHANNEL - is every connection
 *     bytes BYTES                      as they are, to every connection; %00 works
 *     flood CHANNEL EVENT COUNT        bad-frame NUMBER             ping PAYLOAD
 *     close CODE [REASON]              as server_close_all: 0 no code, -1 FIN, -2 reset
 *     error CODE CHANNEL MESSAGE       CODE -1 is null, CHANNEL - is none
 *     faults COUNT [NAME=VALUE ...]    of the next COUNT connections, 0: of all
 *     faults-now [NAME=VALUE ...]      of the open ones too; names as in server_faults
 *     forget CHANNEL                   master-key KEY               stall on|off
 *     stop [reset]                     start                        on the same port
 *     subscribers CHANNEL N [MS]       waits until there are exactly N; "no N" when there are not
 *     connections N [MS]               upgraded and not closing
 *     sockets N [MS]                   in any state: at 0 all that was sent has been read
 *     wait KIND N [PART]               waits until the log has N entries of the kind with PART
 *     log FROM                         the log from entry FROM on, as a JSON array
 */
#ifndef TESTS_CONTROL_H
#define TESTS_CONTROL_H

#include "server.h"

typedef struct control {
    server *s;              /* NULL while stopped      */
    server_options options; /* for starting it again   */
} control;

/* line: without the new line; it is written over. */
void control_line(control *c, char *line, FILE *answer);

#endif
