/* One zone on its way into the archive. */

#ifndef ZONE_H
#define ZONE_H

#include "store.h"
#include "verb.h"

typedef struct Archive
{
	const Call *call;			/* its first arguments are the topic and the group */
	IotmqLink  *link;
	Store	   *store;
	int			most_messages;	/* of an object */
	size_t		most_bytes;		/* of its text; a last message may go beyond */
	double		longest;		/* seconds from its first message on */
	double		store_pause;	/* before the store is tried again; 0: the last try was good */
	double		store_retry_at;
	const char *error;			/* of the last trouble */
} Archive;

typedef struct Zone Zone;

struct Zone
{
	Zone	   *next_zone;
	char	   *name;
	char	   *folder;			/* topic/zone */
	bool		ready;			/* what is below is known */
	bool		left_to_another;
	bool		full;			/* the last fetch brought all it could: there is more */
	int64_t		position;		/* of the group, as it is committed */
	int64_t		next;			/* to be fetched */
	int64_t		expired;		/* what retention has dropped unread so far */
	Ranges		there;			/* objects that the archive has from the position on */
	int			passed;			/* of these, how many lie below what is read */
	Ranges		lost;			/* offsets that never came to be */
	Range		plan;			/* what the last object was to have; last 0: there is none */

	/* The object that is being made */
	int			count;			/* its messages; 0: there is none */
	Range		range;
	double		since;			/* when it got its first message */
	bool		planned;		/* it is that of the plan, and to be as that says */
	FILE	   *stream;
	char	   *text;
	size_t		length;
	bool		closed;			/* it is compressed, and to be written */
	char	   *bytes;
	size_t		size;
};

/* archive.c */
PGresult   *archive_query(Archive *archive, const char *sql, int count, const char *const *values, IotmqTrouble *trouble);
int64_t		archive_number(const PGresult *result, int row, int column);
IotmqTrouble archive_store_result(Archive *archive, IotmqTrouble trouble);

/* position.c */
int64_t		zone_behind(const Zone *zone, int64_t offset);
IotmqTrouble zone_is_ours(Archive *archive, Zone *zone, bool *ours);
IotmqTrouble zone_commit(Archive *archive, Zone *zone, int64_t next, bool *moved);

/* start.c */
IotmqTrouble zone_begin(Archive *archive, Zone *zone);

/* object.c */
#define PLAN "_plan"			/* what begins so is hidden from most readers of such folders */

void		object_add(Zone *zone, const PGresult *result, int row, int64_t offset);
void		object_close(Zone *zone);
IotmqTrouble object_write(Archive *archive, Zone *zone);
void		object_drop(Zone *zone);

/* zone.c */
Zone	   *zone_make(const Archive *archive, const char *name);
void		zone_free(Zone *zone);
void		zone_forget(Zone *zone);
void		zone_check(Zone *zone, int64_t position);
IotmqTrouble zone_step(Archive *archive, Zone *zone, bool reads, bool now);

#endif							/* ZONE_H */
