/*
 * filter.c - what a group wants: its tags and its jsonpath filter.
 */
#include "group/group.h"

#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/jsonpath.h"
#include "utils/memutils.h"

#define NESTING 256				/* levels of a payload that a filter is applied to */
#define NESTING_BYTES 8			/* that a level takes at least: smaller payloads need no look */

static bool has_tag(const ConsumerGroup *group, TupleTableSlot *slot);
static bool matches(const ConsumerGroup *group, TupleTableSlot *slot);
static bool match(Datum payload, struct varlena *filter);
static bool evaluate(Jsonb *payload, struct varlena *filter);
static bool is_nested_deeper(Jsonb *payload, int levels);

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

/* payload @@ filter; not true for a message without payload. */
static bool
matches(const ConsumerGroup *group, TupleTableSlot *slot)
{
	bool		isnull;
	Datum		payload = slot_getattr(slot, Anum_payload, &isnull);

	return !isnull && match(payload, group->filter);
}

/*
 * filter_matches(payload jsonb, filter jsonpath) RETURNS boolean, strict: what decides
 * whether a group gets a message, for what counts in SQL.
 */
PG_FUNCTION_INFO_V1(iotmq_filter_matches);
Datum
iotmq_filter_matches(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(match(PG_GETARG_DATUM(0), (struct varlena *) PG_GETARG_POINTER(1)));
}

/*
 * filter_is_predicate(filter jsonpath) RETURNS boolean, strict: is it a predicate, of which
 * each payload makes true, false or unknown? What is none has no value for a group: only a
 * path that leads to the literal true would let a message pass.
 */
PG_FUNCTION_INFO_V1(iotmq_filter_is_predicate);
Datum
iotmq_filter_is_predicate(PG_FUNCTION_ARGS)
{
	JsonPathItem root;

	jspInit(&root, PG_GETARG_JSONPATH_P(0));
	if (jspHasNext(&root))
		PG_RETURN_BOOL(false);	/* ($.a > 1).type() is not what its beginning is */
	switch (root.type)
	{
		case jpiAnd:
		case jpiOr:
		case jpiNot:
		case jpiIsUnknown:
		case jpiEqual:
		case jpiNotEqual:
		case jpiLess:
		case jpiGreater:
		case jpiLessOrEqual:
		case jpiGreaterOrEqual:
		case jpiExists:
		case jpiStartsWith:
		case jpiLikeRegex:
			PG_RETURN_BOOL(true);
		default:
			PG_RETURN_BOOL(false);
	}
}

/* As evaluate; nothing that it allocates outlives the message. */
static bool
match(Datum payload, struct varlena *filter)
{
	static MemoryContext context = NULL;
	MemoryContext caller = CurrentMemoryContext;
	bool		result;

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "iotmq filter", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(context);
	MemoryContextSwitchTo(context);
	result = evaluate(DatumGetJsonbP(payload), filter);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(context);
	return result;
}

/*
 * payload @@ filter. A payload that the filter can't be applied to does not match:
 * the operator hides most such errors, but some it raises (comparing a date with a
 * timestamptz), and one message must not stop its group for good. To catch an error
 * without a subtransaction is safe here: evaluating a path takes no lock and pins no
 * buffer, once the payload is fetched. Other errors are not the message's.
 */
static bool
evaluate(Jsonb *payload, struct varlena *filter)
{
	LOCAL_FCINFO(fcinfo, 2);
	MemoryContext context = CurrentMemoryContext;
	volatile bool result = false;

	if (VARSIZE_ANY(payload) > NESTING * NESTING_BYTES && is_nested_deeper(payload, NESTING))
		return false;
	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(payload);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = PointerGetDatum(filter);
	fcinfo->args[1].isnull = false;
	PG_TRY();
	{
		Datum		value = jsonb_path_match_opr(fcinfo);

		result = !fcinfo->isnull && DatumGetBool(value);
	}
	PG_CATCH();
	{
		int			code = geterrcode();

		if (ERRCODE_TO_CATEGORY(code) != ERRCODE_DATA_EXCEPTION &&
			code != ERRCODE_FEATURE_NOT_SUPPORTED)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	return result;
}

/* Paths walk down by recursion, and some take memory by the square of the depth. */
static bool
is_nested_deeper(Jsonb *payload, int levels)
{
	JsonbIterator *it = JsonbIteratorInit(&payload->root);
	JsonbValue	value;
	JsonbIteratorToken token;
	int			depth = 0;

	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
	{
		if (token == WJB_END_ARRAY || token == WJB_END_OBJECT)
			depth--;
		else if ((token == WJB_BEGIN_ARRAY || token == WJB_BEGIN_OBJECT) && ++depth > levels)
			return true;
	}
	return false;
}
