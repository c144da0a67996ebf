/*
 * fdw_plan.c: planning scans of a model.
 *
 * Equalities on the key columns become the seeds, so that ten keys cost ten
 * predictions; from a join they become parameterised paths, one for each set
 * of relations that gives the whole key. Whatever is pushed down is checked
 * again by the executor: a pushed equality only narrows what is scored.
 *
 * as_of is different: an equality on it is the question itself. If it comes
 * from another relation of the query (predictions for a list of customers and
 * dates), every path needs that relation, or the answer would depend on the
 * plan. So such a model is treated as a lateral reference to it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/pg_locale.h"
#include "utils/selfuncs.h"
#include "utils/syscache.h"

#include "extension/fdw.h"
#include "extension/key.h"
#include "extension/model_parallel.h"
#include "extension/moe_ml.h"

/* In units of the planner: a sequentially read page is 1. */
#define OPEN_COST 1000.0 /* reading the tables; paid once a statement, so not by each rescan of an inner side */
#define CALL_COST 20.0   /* one pass of the network, however few its seeds */
#define SEED_COST 10.0

typedef struct plan_state /* rel->fdw_private */
{
    moe_shape *shape;
    double entities; /* estimated rows of the entity table */
} plan_state;

/* Is this operator the equality of the column's default btree order, and bitwise where a collation decides? */
static bool
is_key_equality(Oid operator, Oid collation, Oid type)
{
    Oid class = GetDefaultOpClass(type, BTREE_AM_OID);

    if (!OidIsValid(class) || (OidIsValid(collation) && !get_collation_isdeterministic(collation)))
        return false;
    return get_op_opfamily_strategy(operator, get_opclass_family(class)) == BTEqualStrategyNumber;
}

/* The key column or as_of that an expression is, or 0. */
static AttrNumber
column_of(Node *node, Index relid, const moe_shape *shape)
{
    Var *var;

    while (node != NULL && IsA(node, RelabelType))
        node = (Node *) ((RelabelType *) node)->arg;
    var = (Var *) node;
    if (node == NULL || !IsA(node, Var) || var->varno != relid || var->varlevelsup != 0)
        return 0;
    return var->varattno >= 1 && var->varattno <= shape->as_of ? var->varattno : 0;
}

/* Recognise `column = value` or `column = ANY (value)`; NULL for anything else. */
static moe_pushed *
match_equality(PlannerInfo *root, Index relid, const moe_shape *shape, Expr *clause)
{
    moe_pushed *pushed = palloc0(sizeof(moe_pushed));
    Oid operator= InvalidOid, collation = InvalidOid;
    Node *left = NULL, *right = NULL;
    Oid type;

    if (IsA(clause, OpExpr) && list_length(((OpExpr *) clause)->args) == 2)
    {
        OpExpr *op = (OpExpr *) clause;

        operator= op->opno;
        collation = op->inputcollid;
        left = linitial(op->args);
        right = lsecond(op->args);
        if (column_of(left, relid, shape) == 0)
        {
            Node *swap = left;

            left = right;
            right = swap;
            operator= get_commutator(operator);
        }
    }
    else if (IsA(clause, ScalarArrayOpExpr) && ((ScalarArrayOpExpr *) clause)->useOr)
    {
        ScalarArrayOpExpr *op = (ScalarArrayOpExpr *) clause;

        operator= op->opno;
        collation = op->inputcollid;
        left = linitial(op->args);
        right = lsecond(op->args);
        pushed->array = true;
    }
    pushed->column = column_of(left, relid, shape);
    if (pushed->column == 0 || !OidIsValid(operator))
        return NULL;
    pushed->value = (Expr *) right;
    pushed->value_type = getBaseType(exprType(right));
    if (pushed->array)
        pushed->value_type = getBaseType(get_element_type(pushed->value_type));
    type = shape->type[pushed->column - 1];
    if (!OidIsValid(pushed->value_type) || !is_key_equality(operator, collation, type))
        return NULL;
    if (pushed->column == shape->as_of ? !moe_time_convertible(pushed->value_type, type)
                                       : !moe_key_convertible(pushed->value_type, type))
        return NULL;
    if (bms_is_member(relid, pull_varnos(root, right)) || contain_volatile_functions(right))
        return NULL;
    return pushed;
}

List *
moe_fdw_pushed(PlannerInfo *root, Index relid, const moe_shape *shape, List *restrictions)
{
    moe_pushed **found = palloc0(sizeof(moe_pushed *) * (shape->as_of + 1));
    List *result = NIL;
    bool whole_key = true;
    ListCell *cell;

    foreach (cell, restrictions)
    {
        RestrictInfo *restriction = lfirst_node(RestrictInfo, cell);
        moe_pushed *pushed = match_equality(root, relid, shape, restriction->clause);

        if (pushed != NULL && (found[pushed->column] == NULL || (found[pushed->column]->array && !pushed->array)))
            found[pushed->column] = pushed;
    }
    for (int i = 1; i <= shape->n_key; i++)
        whole_key = whole_key && found[i] != NULL;
    for (int i = 1; whole_key && i <= shape->n_key; i++)
        result = lappend(result, found[i]);
    if (found[shape->as_of] != NULL)
        result = lappend(result, found[shape->as_of]);
    return result;
}

/* How many seeds the pushed equalities make. */
static double
count_seeds(const plan_state *state, PlannerInfo *root, List *pushed)
{
    double keys = 1, times = 1;
    bool has_key = false;
    ListCell *cell;

    foreach (cell, pushed)
    {
        moe_pushed *item = lfirst(cell);
#if PG_VERSION_NUM >= 170000
        double n = item->array ? estimate_array_length(root, (Node *) item->value) : 1;
#else
        double n = item->array ? estimate_array_length((Node *) item->value) : 1;
#endif

        if (item->column == state->shape->as_of)
            times *= n;
        else
        {
            keys *= n;
            has_key = true;
        }
    }
    return Max(1, times * (has_key ? Min(keys, state->entities) : state->entities));
}

/* Does this member of an equivalence class stand for the column in arg? */
static bool
member_is_column(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *ec, EquivalenceMember *em, void *arg)
{
    Node *node = (Node *) em->em_expr;

    while (node != NULL && IsA(node, RelabelType))
        node = (Node *) ((RelabelType *) node)->arg;
    return equal(node, arg);
}

/* The join clauses (RestrictInfos) that give a column from other relations. */
static List *
join_equalities(PlannerInfo *root, RelOptInfo *rel, Oid relid, const moe_shape *shape, AttrNumber column)
{
    List *result = NIL, *all = list_copy(rel->joininfo);
    ListCell *cell;
    Oid type, collation;
    int32 typmod;

    get_atttypetypmodcoll(relid, column, &type, &typmod, &collation);
    if (rel->has_eclass_joins)
    {
        Var *var = makeVar(rel->relid, column, type, typmod, collation, 0);

        all = list_concat(
            all, generate_implied_equalities_for_column(root, rel, member_is_column, var, rel->lateral_referencers));
    }
    foreach (cell, all)
    {
        RestrictInfo *restriction = lfirst_node(RestrictInfo, cell);
        moe_pushed *pushed = match_equality(root, rel->relid, shape, restriction->clause);

        if (pushed != NULL && pushed->column == column && join_clause_is_movable_to(restriction, rel))
            result = lappend(result, restriction);
    }
    return result;
}

/* Is the source inside a semijoin (IN, EXISTS) that the model stands outside of? */
static bool
is_in_semijoin(PlannerInfo *root, int source, Index relid)
{
    ListCell *cell;

    foreach (cell, root->join_info_list)
    {
        SpecialJoinInfo *join = lfirst_node(SpecialJoinInfo, cell);

        if (join->jointype == JOIN_SEMI && bms_is_member(source, join->syn_righthand) &&
            !bms_is_member(relid, join->syn_righthand))
            return true;
    }
    return false;
}

/* Let rel depend on source, as if it were written LATERAL. */
static void
add_lateral(PlannerInfo *root, RelOptInfo *rel, int source)
{
    RelOptInfo *giver = root->simple_rel_array[source];
    Relids needed = bms_union(bms_make_singleton(source), giver->lateral_relids);
    int member = -1;

    root->hasLateralRTEs = true; /* or the order of joins is not checked for it */
    rel->direct_lateral_relids = bms_add_member(rel->direct_lateral_relids, source);
    rel->lateral_relids = bms_add_members(rel->lateral_relids, needed);
    for (int i = 1; i < root->simple_rel_array_size; i++)
    {
        RelOptInfo *other = root->simple_rel_array[i];

        if (other != NULL && bms_is_member(rel->relid, other->lateral_relids))
            other->lateral_relids = bms_add_members(other->lateral_relids, needed);
    }
    while ((member = bms_next_member(needed, member)) >= 0)
    {
        RelOptInfo *other = root->simple_rel_array[member];

        other->lateral_referencers = bms_add_member(other->lateral_referencers, rel->relid);
        other->lateral_referencers = bms_add_members(other->lateral_referencers, rel->lateral_referencers);
    }
}

/*
 * If as_of comes from another relation, make every path depend on that
 * relation. Two models that ask each other for the time (a.as_of = b.as_of
 * and nothing else) break the tie by order: the later one takes its default.
 */
static void
require_time(PlannerInfo *root, RelOptInfo *rel, Oid relid, const moe_shape *shape)
{
    bool refused = false;
    ListCell *cell;

    foreach (cell, rel->baserestrictinfo)
    {
        moe_pushed *pushed = match_equality(root, rel->relid, shape, lfirst_node(RestrictInfo, cell)->clause);

        if (pushed != NULL && pushed->column == shape->as_of)
            return;
    }
    foreach (cell, join_equalities(root, rel, relid, shape, shape->as_of))
    {
        Relids sources = bms_del_member(bms_copy(lfirst_node(RestrictInfo, cell)->clause_relids), rel->relid);
        int source;

        if (bms_is_subset(sources, rel->lateral_relids))
            return;
        if (bms_overlap(sources, rel->lateral_referencers))
            continue;
        if (!bms_get_singleton_member(sources, &source) || root->simple_rel_array[source] == NULL ||
            is_in_semijoin(root, source, rel->relid))
        {
            refused = true;
            continue;
        }
        add_lateral(root, rel, source);
        return;
    }
    if (refused)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("as_of of model \"%s\" cannot be taken from this subquery or join", get_rel_name(relid)),
                        errhint("Use as_of = ANY (ARRAY(SELECT ...)), or join one relation that holds the times.")));
}

/* The entity table's number of rows as the planner knows it. */
static double
estimate_entities(Oid entity)
{
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(entity));
    double rows = -1;

    if (HeapTupleIsValid(tuple))
    {
        rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
        ReleaseSysCache(tuple);
    }
    return rows >= 0 ? Max(rows, 1) : 1000;
}

/* What is known of the model, looked up by whoever asks first. */
static plan_state *
state_of(RelOptInfo *rel, Oid relid)
{
    plan_state *state = rel->fdw_private;

    if (state == NULL)
    {
        const moe_model_info *info = moe_model_load(relid);

        rel->fdw_private = state = palloc0(sizeof(plan_state));
        state->shape = moe_shape_of(relid, info);
        state->entities = estimate_entities(info->entity);
    }
    return state;
}

void
moe_fdw_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
    plan_state *state = state_of(rel, relid);
    List *pushed = moe_fdw_pushed(root, rel->relid, state->shape, rel->baserestrictinfo);
    double seeds = count_seeds(state, root, pushed);

    rel->tuples = seeds;
    /* The pushed equalities are in the number of seeds already; any other condition thins the rows out. */
    rel->rows = clamp_row_est(list_length(rel->baserestrictinfo) > list_length(pushed) ? seeds / 3 : seeds);
    require_time(root, rel, relid, state->shape);
}

/* Do the pushed equalities give every key column? moe_fdw_pushed lists all of them or none. */
static bool
gives_key(const plan_state *state, List *pushed)
{
    return pushed != NIL && ((moe_pushed *) linitial(pushed))->column != state->shape->as_of;
}

/* Whose rights count, as the executor will find it (fdw_scan.c). */
static Oid
asking_user(const RelOptInfo *rel)
{
    return OidIsValid(rel->userid) ? rel->userid : GetUserId();
}

/*
 * Of a scan of all entities only: one key is no work to share, and looks its rows up by other queries than those that
 * are judged.
 */
bool
moe_fdw_is_parallel_safe(PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *entry)
{
    plan_state *state = state_of(rel, entry->relid);
    const moe_parallel_verdict *verdict;
    Oid caller;
    int security;

    if (gives_key(state, moe_fdw_pushed(root, rel->relid, state->shape, rel->baserestrictinfo)))
        return false;
    GetUserIdAndSecContext(&caller, &security);
    SetUserIdAndSecContext(asking_user(rel), security | SECURITY_LOCAL_USERID_CHANGE);
    verdict = moe_parallel_judge(entry->relid);
    SetUserIdAndSecContext(caller, security);
    root->glob->relationOids = list_concat_unique_oid(root->glob->relationOids, verdict->relations);
    root->glob->invalItems = list_concat(root->glob->invalItems, copyObject(verdict->invalidated));
    root->glob->dependsOnRole |= verdict->of_user;
    return verdict->safe;
}

static void
add_foreign_path(PlannerInfo *root, RelOptInfo *rel, Relids outer, double rows, Cost startup, Cost total, bool safe)
{
    ForeignPath *path = create_foreignscan_path(root, rel, NULL, rows,
#if PG_VERSION_NUM >= 180000
                                                0,
#endif
                                                startup, total, NIL, outer, NULL,
#if PG_VERSION_NUM >= 170000
                                                NIL,
#endif
                                                NIL);

    path->path.parallel_safe = safe;
    add_path(rel, (Path *) path);
}

/*
 * What a scan in workers costs of one in the leader. In a join each process scans for itself, and all of them want the
 * cores that a scan's threads use already; beside other scans (UNION ALL) it is made once, by one of them.
 */
static double
cost_in_workers(const PlannerInfo *root, const RelOptInfo *rel)
{
    bool joined = rel->reloptkind == RELOPT_BASEREL && bms_membership(root->all_baserels) == BMS_MULTIPLE;

    return joined && moe_setting_threads != 1 ? 1 + max_parallel_workers_per_gather : 1;
}

/* Add the paths that need these outer relations, if they give the key or are the only kind there is. */
static void
add_scan_path(PlannerInfo *root, RelOptInfo *rel, Relids outer)
{
    plan_state *state = rel->fdw_private;
    List *restrictions = rel->baserestrictinfo;
    List *pushed;
    double seeds;
    Cost startup = OPEN_COST, total;
    double rows = rel->rows;
    bool safe = rel->consider_parallel && bms_is_empty(outer);
    double times = cost_in_workers(root, rel);

    if (!bms_is_empty(outer))
    {
        ParamPathInfo *info = get_baserel_parampathinfo(root, rel, outer);

        restrictions = list_concat_copy(restrictions, info->ppi_clauses);
    }
    pushed = moe_fdw_pushed(root, rel->relid, state->shape, restrictions);
    if (!bms_equal(outer, rel->lateral_relids) && !gives_key(state, pushed))
        return;
    seeds = count_seeds(state, root, pushed);
    if (!bms_is_empty(outer))
    {
        startup = CALL_COST;
        rows = Min(rows, seeds);
    }
    total = startup + CALL_COST + seeds * (SEED_COST + cpu_tuple_cost);
    if (safe)
        add_foreign_path(root, rel, outer, rows, times * startup, times * total, true);
    if (!safe || times > 1)
        add_foreign_path(root, rel, outer, rows, startup, total, false);
}

/* Add a set of relations to a list of distinct sets. */
static List *
add_outer(List *outers, Relids outer)
{
    ListCell *cell;

    foreach (cell, outers)
        if (bms_equal(lfirst(cell), outer))
            return outers;
    return lappend(outers, outer);
}

/*
 * One path that needs nothing more than it must, one for each set of
 * relations that gives a key column, and one for all of these together (a
 * composite key whose parts come from different relations).
 */
void
moe_fdw_paths(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
    plan_state *state = rel->fdw_private;
    List *outers = list_make1(rel->lateral_relids);
    Relids all = bms_copy(rel->lateral_relids);
    ListCell *cell;

    for (AttrNumber i = 1; i <= state->shape->n_key; i++)
    {
        foreach (cell, join_equalities(root, rel, relid, state->shape, i))
        {
            Relids outer = bms_union(lfirst_node(RestrictInfo, cell)->clause_relids, rel->lateral_relids);

            outer = bms_del_member(outer, rel->relid);
            if (list_length(outers) < 32)
                outers = add_outer(outers, outer);
            all = bms_add_members(all, outer);
        }
    }
    outers = add_outer(outers, all);
    foreach (cell, outers)
        add_scan_path(root, rel, lfirst(cell));
}

ForeignScan *
moe_fdw_plan(PlannerInfo *root, RelOptInfo *rel, Oid relid, ForeignPath *path, List *tlist, List *clauses,
             Plan *outer_plan)
{
    plan_state *state = rel->fdw_private;
    List *expressions = NIL, *columns = NIL, *arrays = NIL, *types = NIL;
    ListCell *cell;

    foreach (cell, moe_fdw_pushed(root, rel->relid, state->shape, clauses))
    {
        moe_pushed *pushed = lfirst(cell);

        expressions = lappend(expressions, pushed->value);
        columns = lappend_int(columns, pushed->column);
        arrays = lappend_int(arrays, pushed->array);
        types = lappend_oid(types, pushed->value_type);
    }
    return make_foreignscan(tlist, extract_actual_clauses(clauses, false), rel->relid, expressions,
                            list_make3(columns, arrays, types), NIL, NIL, outer_plan);
}
