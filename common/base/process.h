/* What a program of ours does first. */
#ifndef RV_PROCESS_H
#define RV_PROCESS_H

/* Libraries read these before main: OpenMP threads that spin while they wait, and BLAS kernels
 * chosen for another processor, cost more than they give.  The program starts itself again when
 * they are not as they should be; arguments stay.  First thing in main, for programs that compute.
 */
void rv__process_calm(char **argv);

#endif
