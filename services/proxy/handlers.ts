/** ProxyService: what an operator can see and do about open uploads. */
import { AppError, parseRepositoryName } from '#core';
import type { ProxyServiceService } from '#gen/shoal/proxy/v1/proxy_service';
import type { UploadStore } from '#storage';
import { type Handlers, timestampToProto } from '#wire';

const pageSizeDefault = 100;
const pageSizeMax = 1000;

export function proxyHandlers(deps: { readonly uploads: UploadStore }): Handlers<typeof ProxyServiceService> {
  return {
    async listUploads(request) {
      const limit = request.pageSize === 0 ? pageSizeDefault : request.pageSize;
      if (limit > pageSizeMax) throw new AppError('invalid-argument', `page_size is at most ${pageSizeMax}`);
      const start = request.pageToken === '' ? 0 : Number(request.pageToken);
      if (!Number.isSafeInteger(start) || start < 0)
        throw new AppError('invalid-argument', 'page_token: use next_page_token of the page before');
      const sessions = deps.uploads.list();
      const page = sessions.slice(start, start + limit);
      return {
        uploads: page.map((session) => ({
          id: session.id,
          repository: session.repository,
          offsetBytes: BigInt(session.offsetBytes),
          startTime: timestampToProto(session.startedMs),
          updateTime: timestampToProto(session.touchedMs),
        })),
        nextPageToken: start + limit < sessions.length ? String(start + limit) : '',
      };
    },
    async cancelUpload(request, { signal }) {
      await deps.uploads.cancel(parseRepositoryName(request.repository), request.id, { signal });
      return {};
    },
  };
}
