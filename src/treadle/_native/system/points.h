/* Named points at which a test kills the process: the proof that a kill at any instruction is harmless, for those
 * instructions that matter.  Nothing in an ordinary build; in one made with TREADLE_POINTS=1 the environment variable
 * TREADLE_KILL_AT has name[:n]: the process kills itself with SIGKILL when it comes to that point for the n-th time.
 *
 * A point stands between two steps of a protocol, and its name says which: "lock.release.freed" comes after the lock
 * was freed and before anybody is woken.
 */
#ifndef TREADLE_POINTS_H
#define TREADLE_POINTS_H

#ifdef TREADLE_POINTS
void tl_point(const char *name);
#define TL_POINT(name) tl_point(name)
#else
#define TL_POINT(name) ((void)0)
#endif

#endif
