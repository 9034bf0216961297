/*
 * pg_compat.h - all that differs between PostgreSQL 15, 16, 17 and 18.
 */
#ifndef IOTMQ_PG_COMPAT_H
#define IOTMQ_PG_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "iotmq needs PostgreSQL 15 or newer"
#endif

/* The PGPROC that a virtual transaction id names, the transaction it runs; our locks. */
#if PG_VERSION_NUM >= 170000
#define VXID_PROC(vxid) ProcNumberGetProc((vxid).procNumber)
#define PROC_LXID(proc) ((proc)->vxid.lxid)
#define LOCK_HELD_BY_ME(tag, mode) LockHeldByMe(tag, mode, false)
#else
#define VXID_PROC(vxid) BackendIdGetProc((vxid).backendId)
#define PROC_LXID(proc) ((proc)->lxid)
#define LOCK_HELD_BY_ME(tag, mode) LockHeldByMe(tag, mode)
#endif

/* 16 added onlySummarizing, and made one function of many checks of rights. */
#if PG_VERSION_NUM >= 160000
#define MAY_EXECUTE(function, role) \
	(object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK)
#define INSERT_INDEX_TUPLES(rri, slot, estate, is_update, only_summarizing) \
	ExecInsertIndexTuples(rri, slot, estate, is_update, false, NULL, NIL, only_summarizing)
#define UpdateIndexes TU_UpdateIndexes
#define MUST_UPDATE_INDEXES(indexes) ((indexes) != TU_None)
#define ONLY_SUMMARIZING(indexes) ((indexes) == TU_Summarizing)
#else
#define MAY_EXECUTE(function, role) \
	(pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK)
#define INSERT_INDEX_TUPLES(rri, slot, estate, is_update, only_summarizing) \
	((void) (only_summarizing), \
	 ExecInsertIndexTuples(rri, slot, estate, is_update, false, NULL, NIL))
#define UpdateIndexes bool
#define MUST_UPDATE_INDEXES(indexes) (indexes)
#define ONLY_SUMMARIZING(indexes) false
#endif

/* 18 added an instrumentation argument, and asks whether deferrable keys count. */
#if PG_VERSION_NUM >= 180000
#define PRIMARY_KEY_INDEX(rel) RelationGetPrimaryKeyIndex(rel, false)
#define INDEX_BEGINSCAN(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#else
#define PRIMARY_KEY_INDEX(rel) RelationGetPrimaryKeyIndex(rel)
#define INDEX_BEGINSCAN(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, nkeys, 0)
#endif

/* Stands before "static"; 18 has it in place of pg_attribute_noreturn(). */
#ifndef pg_noreturn
#define pg_noreturn pg_attribute_noreturn()
#endif

/* How many transactions with an id have ended, in any way, since the server started. */
#if PG_VERSION_NUM >= 170000
#define TRANSACTIONS_ENDED (TransamVariables->xactCompletionCount)
#else
#define TRANSACTIONS_ENDED (ShmemVariableCache->xactCompletionCount)
#endif

/* The path of a relation's main fork, allocated; 16 renamed the field, 18 returns a struct. */
#if PG_VERSION_NUM >= 180000
#define RELATION_PATH(rel) \
	pstrdup(relpathbackend((rel)->rd_locator, (rel)->rd_backend, MAIN_FORKNUM).str)
#elif PG_VERSION_NUM >= 160000
#define RELATION_PATH(rel) relpathbackend((rel)->rd_locator, (rel)->rd_backend, MAIN_FORKNUM)
#else
#define RELATION_PATH(rel) relpathbackend((rel)->rd_node, (rel)->rd_backend, MAIN_FORKNUM)
#endif

#endif
