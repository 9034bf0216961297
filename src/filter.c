/*
 * filter.c - what a group wants: its tags and its jsonpath filter.
 */
#include "iotmq.h"

#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

static bool has_tag(const ConsumerGroup *group, TupleTableSlot *slot);
static bool matches(const ConsumerGroup *group, TupleTableSlot *slot);

/* Is the message in slot (a row of a topic table) to be delivered to the group? */
bool
iotmq_filter_accepts(const ConsumerGroup *group, TupleTableSlot *slot)
{
	return (group->ntags == 0 || has_tag(group, slot)) &&
		(group->filter == NULL || matches(group, slot));
}

static bool
has_tag(const ConsumerGroup *group, TupleTableSlot *slot)
{
	bool		isnull;
	Datum		datum = slot_getattr(slot, Anum_tag, &isnull);
	struct varlena *tag;

	if (isnull)
		return false;
	tag = PG_DETOAST_DATUM_PACKED(datum);
	for (int i = 0; i < group->ntags; i++)
		if (VARSIZE_ANY_EXHDR(tag) == VARSIZE_ANY_EXHDR(group->tags[i]) &&
			memcmp(VARDATA_ANY(tag), VARDATA_ANY(group->tags[i]), VARSIZE_ANY_EXHDR(tag)) == 0)
			return true;
	return false;
}

/* payload @@ filter; not true for a message without payload, nor on an error in the path. */
static bool
matches(const ConsumerGroup *group, TupleTableSlot *slot)
{
	LOCAL_FCINFO(fcinfo, 2);
	bool		isnull;
	Datum		payload = slot_getattr(slot, Anum_payload, &isnull);
	Datum		result;

	if (isnull)
		return false;
	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = payload;
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = PointerGetDatum(group->filter);
	fcinfo->args[1].isnull = false;
	result = jsonb_path_match_opr(fcinfo);
	return !fcinfo->isnull && DatumGetBool(result);
}
