/* A value within a JSON text, by a path such as $.reading.id or $.values[0] */

#ifndef JSON_PATH_H
#define JSON_PATH_H

#include "filter.h"

bool		path_is_one(Slice path);
char	   *path_find(Slice path, Slice json);

#endif							/* JSON_PATH_H */
