/* A shell command for one message. */

#ifndef COMMAND_H
#define COMMAND_H

#include <stdbool.h>

#include "iotmq.h"

bool		command_start(const char *command, const char *topic, const IotmqBatch *batch, const IotmqMessage *message);
int			command_fd(void);
bool		command_ended(IotmqFate *fate, char **reason);

#endif							/* COMMAND_H */
